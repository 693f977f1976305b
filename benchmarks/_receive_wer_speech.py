# SPDX-License-Identifier: MIT
"""What is said for the word error rates, and what a recogniser makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio
import av
import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from kyutai_stream import Final, SessionOptions, open_session
from kyutai_stream.cli._scoring import WordErrors, count_errors, normalise
from spreed_signaling.media.opus import open_decoder

from ._opus import RATE, TICKS, encode

__all__ = ["CLIPS", "Recogniser", "Speech", "decode", "load_speech"]

Floats = npt.NDArray[np.float32]

CLIPS = (
    Path(__file__).parents[1]
    / "apps/live-transcription/src/live_transcription/demo/clips"
)
"""Four flite voices, four sentences each."""

HEARD_RATE = 24_000

QUIET_S = 0.5
"""Before and after."""

HISS = 1e-4
"""-80 dBFS: with it no two packets are alike, not even in a pause."""

SILENCE = 0.003
"""Peak of 10 ms below which they belong to a pause: -50 dBFS."""

PAUSE_S = 0.6
"""The clips have 0.75 s between sentences."""

RECOGNISERS = 2

OPTIONS = SessionOptions(
    stall_s=60.0,
    send_timeout_s=60.0,
    progress_timeout_s=60.0,
    end_timeout_s=120.0,
    catch_up_speed=None,
    deaf=None,
)
"""As fast as it goes, and nothing begins anew on a busy machine."""


@frozen(kw_only=True)
class Speech:
    """One talker's words, encoded."""

    name: str
    text: str
    payloads: list[bytes] = field(repr=False)
    """Opus packets of 20 ms, all different."""


def load_speech(path: Path, *, fec: bool, sentences: int | None = None) -> Speech:
    """Encode a clip as browsers do: 32 kbit/s mono, packets of 20 ms.

    Args:
        path: The clip; its words are in the `.txt` beside it, a line a sentence.
        fec: See `encode`.
        sentences: So many from the beginning; None is all.
    """
    quiet = np.zeros(round(QUIET_S * RATE), np.float32)
    spoken = _read(path)
    lines = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    if sentences is not None:
        lines = lines[:sentences]
        spoken = spoken[: _end_of(spoken, sentences)]
    sound = np.concatenate([quiet, spoken, quiet])
    sound += np.random.default_rng(1).normal(0, HISS, len(sound)).astype(np.float32)
    payloads = encode(sound, fec=fec)
    assert len(set(payloads)) == len(payloads), "packets are told by their payload"
    return Speech(
        name=path.stem.replace("_", " ").title(),
        text=" ".join(lines),
        payloads=payloads,
    )


def _read(path: Path) -> Floats:
    parts: list[Floats] = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        for decoded in container.decode(audio=0):
            parts += [one.to_ndarray()[0] for one in resampler.resample(decoded)]
        parts += [one.to_ndarray()[0] for one in resampler.resample(None)]
    return np.concatenate(parts)


def _end_of(spoken: Floats, sentences: int) -> int:
    """Return the sample at which so many sentences are over."""
    window = RATE // 100
    whole = spoken[: len(spoken) // window * window].reshape(-1, window)
    voiced = np.flatnonzero(np.abs(whole).max(axis=1) > SILENCE)
    pauses = np.flatnonzero(np.diff(voiced) * 0.01 > PAUSE_S)
    return int(voiced[pauses[sentences - 1]] + 1) * window


def decode(payloads: Sequence[bytes]) -> Floats:
    """Decode all packets one after the other, with no network: 24 kHz mono."""
    decoder = open_decoder(HEARD_RATE)
    step = TICKS * HEARD_RATE // RATE
    heard = np.zeros((len(payloads) + 6) * step, np.float32)
    at = 0
    for payload in payloads:
        at += decoder.decode(payload, heard, at)
    decoder.close()
    return heard[:at]


class Recogniser:
    """pocketsphinx, two at a time, each clip by a fresh one.

    The same audio gives the same words, so it is asked only once.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}
        self._slots = anyio.CapacityLimiter(RECOGNISERS)

    async def errors(self, speech: Speech, heard: Floats) -> WordErrors:
        """Count the words that are wrong in what was heard (24 kHz mono)."""
        async with self._slots:
            text = await self._recognise(heard)
        return count_errors(normalise(speech.text), normalise(text))

    async def _recognise(self, heard: Floats) -> str:
        key = heard.tobytes()
        if key not in self._known:
            self._known[key] = await _transcribe(heard)
        return self._known[key]


async def _transcribe(heard: Floats) -> str:
    async with open_session("pocketsphinx", language="en", options=OPTIONS) as session:

        async def push() -> None:
            await session.push(heard)
            await session.end_input()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(push)
            events = [event async for event in session]
    return " ".join(event.text for event in events if isinstance(event, Final))
