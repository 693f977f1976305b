# SPDX-License-Identifier: AGPL-3.0-or-later
"""Talkers who say words of tones: for recognisers that hear those and no speech.

`kyutai_stream`'s test servers (`FakeMoshiServer`, the real moshi-server with generated
weights) hear the words of `kyutai_stream.testing.tones`. What they hear was really in
the audio, so captions can be compared with it word for word.
"""

from __future__ import annotations

import random
import wave
from pathlib import Path

import numpy as np

from kyutai_stream.testing.tones import VOCABULARY, speak

from .clips import Clip

__all__ = ["tone_clips"]

NAMES = ("Alice Tone", "Bob Tone", "Carol Tone", "Dan Tone")
RATE = 48_000
"""Hz, as WebRTC publishes."""
WORDS = 20
SENTENCE = 5
LEAD_S = 0.4
"""Silence before the first word; an encoder's first frames may be dull."""


def tone_clips(folder: Path, talkers: int) -> tuple[Clip, ...]:
    """Write what the talkers say, about 11 seconds each, always the same.

    Args:
        folder: Where the audio files go.
        talkers: How many, 1 to 4.
    """
    return tuple(
        _clip(folder / f"tones-{position + 1}.wav", NAMES[position], position)
        for position in range(talkers)
    )


def _clip(path: Path, name: str, seed: int) -> Clip:
    words = random.Random(seed).sample(VOCABULARY, WORDS)
    # A full stop is a pause; it is not said.
    text = [word + "." * (n % SENTENCE == 0) for n, word in enumerate(words, 1)]
    said = speak(text, sample_rate=RATE, lead_s=LEAD_S, seed=seed)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((said.samples * 32767).astype(np.int16).tobytes())
    return Clip(
        name=name,
        path=path,
        text=said.text,
        duration_s=said.duration_s,
        voice_start_s=said.words[0].start,
    )
