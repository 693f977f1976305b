# SPDX-License-Identifier: MIT
"""Cuts decoded audio into frames of one length, each with its place in media time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .audio import AudioChunk
from .opus import RATES
from .rtp.opus_packet import LONGEST_TICKS

__all__ = ["Framer"]

_RTP_RATE = 48_000


class Framer:
    """Writes into one buffer and hands out copies of full frames.

    Every frame has `frame_samples`, but for the last one before a gap, a pause or
    the end: what was received is not held back, and silence is not invented.

    Args:
        emit: Gets the frames in order; must not raise.
        sample_rate: One of `RATES`, Hz.
        frame_samples: Length of a frame.
        start_ticks: Media time of the first sample, in 1/48000 s.

    Raises:
        ValueError: If the rate or the length cannot be.
    """

    def __init__(
        self,
        emit: Callable[[AudioChunk], None],
        *,
        sample_rate: int,
        frame_samples: int,
        start_ticks: int = 0,
    ) -> None:
        if sample_rate not in RATES:
            raise ValueError(f"sample_rate must be one of {RATES}, not {sample_rate}")
        if not 0 < frame_samples <= 10 * sample_rate:
            raise ValueError("a frame must last more than nothing and at most 10 s")
        self.sample_rate = sample_rate
        self.step = _RTP_RATE // sample_rate
        """Ticks of 1/48000 s in a sample."""
        self.ticks = start_ticks
        """Media time of what is written next, in 1/48000 s."""
        self._emit = emit
        self._size = frame_samples
        room = LONGEST_TICKS // self.step
        self.buffer: npt.NDArray[np.float32] = np.zeros(
            frame_samples + room, np.float32
        )
        """The next samples are to be written from `fill`; there is room for 120 ms."""
        self.fill = 0
        """Samples in the buffer, which wait for the rest of their frame."""
        self._start = self._end = start_ticks // self.step
        self._concealed: list[tuple[int, int]] = []
        self._level: int | None = None

    @property
    def missing_ticks(self) -> int:
        """How much completes a frame, in 1/48000 s."""
        return (self._size - self.fill) * self.step

    def wrote(
        self, count: int, *, concealed: bool = False, level: int | None = None
    ) -> None:
        """`count` samples were written to `buffer` from `fill`.

        Args:
            count: Samples, at most 120 ms.
            concealed: Whether they were lost and are recovered or guessed.
            level: The sender's own statement, dBov.
        """
        if concealed and count:
            self._concealed.append((self.fill, self.fill + count))
        if level is not None and (self._level is None or level > self._level):
            self._level = level
        self.fill += count
        self.ticks += count * self.step
        if self.fill >= self._size:
            self._cut_full(level)

    def skip(self, ticks: int) -> None:
        """So much is missing here and stays so."""
        self.ticks += ticks
        place = self.ticks // self.step
        if place > self._start + self.fill:
            self.flush()
            self._start = place

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        """Write samples of any number."""
        most = LONGEST_TICKS // self.step
        for at in range(0, len(samples), most):
            part = samples[at : at + most]
            self.buffer[self.fill : self.fill + len(part)] = part
            self.wrote(len(part))

    def flush(self) -> None:
        """Hand out what there is of a frame."""
        if self.fill:
            self._cut(self.fill)
            self.fill = 0
            self._level = None

    def _cut_full(self, level: int | None) -> None:
        at = 0
        while self.fill - at >= self._size:
            self._cut(self._size, at)
            at += self._size
            # What is left is of the packet that was written last.
            self._level = level
        rest = self.fill - at
        self.buffer[:rest] = self.buffer[at : self.fill]
        self.fill = rest
        self._level = level if rest else None

    def _cut(self, count: int, at: int = 0) -> None:
        chunk = AudioChunk(
            samples=self.buffer[at : at + count].copy(),
            sample_rate=self.sample_rate,
            media_time_s=self._start / self.sample_rate,
            gap_samples=self._start - self._end,
            concealed_ms=self._cut_concealed(count) if self._concealed else 0.0,
            audio_level=self._level,
        )
        self._start += count
        self._end = self._start
        self._emit(chunk)

    def _cut_concealed(self, count: int) -> float:
        """Return what of the first `count` samples is concealed, ms; forget it."""
        inside = sum(
            min(end, count) - start for start, end in self._concealed if start < count
        )
        self._concealed = [
            (max(0, start - count), end - count)
            for start, end in self._concealed
            if end > count
        ]
        return inside * 1000 / self.sample_rate
