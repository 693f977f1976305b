# SPDX-License-Identifier: MIT
"""Words as audio: their chords one after the other, with gaps and noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from .vocabulary import (
    CHORDS,
    RAMP_S,
    RATE,
    TONES_HZ,
    HeardWord,
    duration_of,
    number_of,
)

__all__ = ["Utterance", "speak"]

Samples = npt.NDArray[np.float32]

SENTENCE_ENDS: Final = ".!?"
GAP_S: Final = 0.12
SENTENCE_PAUSE_S: Final = 0.9
TAIL_S: Final = 0.1
LEVEL_DBFS: Final = -15.0


@frozen(kw_only=True, eq=False)
class Utterance:
    """Spoken words and their exact times."""

    samples: Samples = field(repr=False)
    """Mono PCM, float32, shape `(n,)`, -1.0 to 1.0, at `sample_rate`."""
    words: tuple[HeardWord, ...]
    """What is in it, in order."""
    sample_rate: int
    """Samples per second."""

    @property
    def text(self) -> str:
        """The words, joined by spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def duration_s(self) -> float:
        """Seconds of audio."""
        return len(self.samples) / self.sample_rate


def speak(
    words: str | Iterable[str],
    *,
    sample_rate: int = RATE,
    gap_s: float = GAP_S,
    sentence_pause_s: float = SENTENCE_PAUSE_S,
    lead_s: float = 0.0,
    tail_s: float = TAIL_S,
    level_dbfs: float = LEVEL_DBFS,
    noise_dbfs: float | None = None,
    seed: int = 0,
) -> Utterance:
    """Say words of the vocabulary.

    Args:
        words: A text or single words. A full stop, question or exclamation mark
            behind a word ends a sentence; it is not part of the word.
        sample_rate: Samples per second, from 12 000 on.
        gap_s: Shortest silence between two words; each gap is longer than that by
            up to a third, chosen by `seed`. From 0.08 on.
        sentence_pause_s: Silence between sentences, likewise.
        lead_s: Silence before the first word.
        tail_s: Silence after the last word; the recogniser needs 0.05.
        level_dbfs: Level (root mean square) of the words; full scale is a sine of
            -3 dBFS. The recogniser needs -38 or more.
        noise_dbfs: Level of white noise over everything; None for none.
        seed: Decides gaps, phases and noise.

    Returns:
        The audio with the exact times of its words.

    Raises:
        ValueError: If a word is unknown or a number out of range.
    """
    if sample_rate < 12_000:
        raise ValueError("the tones need at least 12 000 samples per second")
    if gap_s < 0.08:
        raise ValueError("words closer than 80 ms cannot be told apart")
    random = np.random.default_rng(seed)
    said: list[HeardWord] = []
    parts: list[tuple[int, Samples]] = []
    at = lead_s
    pause = 0.0
    for spelled in words.split() if isinstance(words, str) else words:
        text = spelled.rstrip(SENTENCE_ENDS).lower()
        burst = _burst(number_of(text), sample_rate, level_dbfs, random)
        begin = round((at + pause) * sample_rate)
        parts.append((begin, burst))
        end = begin + len(burst)
        said.append(
            HeardWord(text=text, start=begin / sample_rate, end=end / sample_rate)
        )
        at = end / sample_rate
        long = spelled[-1] in SENTENCE_ENDS
        pause = (sentence_pause_s if long else gap_s) * random.uniform(1.0, 4 / 3)
    samples = _joined(parts, round((at + tail_s) * sample_rate))
    if noise_dbfs is not None:
        _add_noise(samples, noise_dbfs, random)
    return Utterance(samples=samples, words=tuple(said), sample_rate=sample_rate)


def _burst(
    number: int, rate: int, level_dbfs: float, random: np.random.Generator
) -> Samples:
    length = round(duration_of(number) * rate)
    time = np.arange(length) / rate
    tones = sum(
        np.sin(2 * np.pi * (TONES_HZ[tone] * time + random.uniform()))
        for tone in CHORDS[number]
    )
    # Three tones of amplitude a have a mean square of 3 a² / 2.
    amplitude = 10 ** (level_dbfs / 20) * np.sqrt(2 / 3)
    ramp = round(RAMP_S * rate)
    envelope = np.ones(length)
    envelope[:ramp] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
    envelope[-ramp:] = envelope[:ramp][::-1]
    return np.asarray(amplitude * envelope * tones, dtype=np.float32)


def _joined(parts: Iterable[tuple[int, Samples]], length: int) -> Samples:
    """Silence of that length with each part where it begins."""
    samples = np.zeros(length, dtype=np.float32)
    for begin, part in parts:
        samples[begin : begin + len(part)] = part
    return samples


def _add_noise(samples: Samples, dbfs: float, random: np.random.Generator) -> None:
    scale = 10 ** (dbfs / 20)
    samples += random.normal(0, scale, len(samples)).astype(np.float32)
    np.clip(samples, -1.0, 1.0, out=samples)
