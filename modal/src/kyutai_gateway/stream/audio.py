# SPDX-License-Identifier: MIT
"""Take bytes in any chunking, give exact frames, refuse what is no audio.

The usual message is one whole frame: it is looked at where it lies and never
copied. Everything else goes through one buffer of one frame, so a byte is copied at
most once however small the messages are.
"""

from __future__ import annotations

import math

import numpy as np

from kyutai_stream.backend import Frame
from kyutai_stream.core import FRAME_SAMPLES

__all__ = ["FRAME_BYTES", "BadAudio", "Intake"]

FLOAT = np.dtype("<f4")

FRAME_BYTES = FRAME_SAMPLES * FLOAT.itemsize

LOUD = 1e-5 * FRAME_SAMPLES
"""Energy of a frame of -50 dBFS: quieter than any speech worth a caption."""

FULL_SCALE = 1.0 * FRAME_SAMPLES
"""No frame within -1.0 to 1.0 has more energy."""

ABSURD = 100.0 * FRAME_SAMPLES
"""Ten times full scale: integers sent as floats, not just too much gain."""


class BadAudio(Exception):
    """The bytes are no float32 audio; the text is for the client."""


class Intake:
    """Bytes of one client in, frames out.

    `loud` says whether anything louder than -50 dBFS came since it was last cleared.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(FRAME_BYTES)
        self._filled = 0
        self._checked = 0
        self.samples = 0
        """Whole samples taken so far."""
        self.loud = False

    @property
    def split(self) -> int:
        """Bytes of a sample that is not whole yet, 0 to 3."""
        return self._filled % FLOAT.itemsize

    def push(self, data: bytes) -> list[Frame]:
        """Take a message of any length.

        Args:
            data: Float32, little-endian; samples may be split between messages.

        Returns:
            Frames of shape `(1920,)` that it completed; they may be read-only views.

        Raises:
            BadAudio: If it holds numbers that are no samples.
        """
        size = len(data)
        if size == FRAME_BYTES and not self._filled:
            self.samples += FRAME_SAMPLES
            return [self._judged(np.frombuffer(data, FLOAT))]
        frames = []
        at = self._fill(data, 0) if self._filled else 0
        if self._filled == FRAME_BYTES:
            frames.append(self._take())
        while size - at >= FRAME_BYTES:
            frame = np.frombuffer(data, FLOAT, FRAME_SAMPLES, at)
            self.samples += FRAME_SAMPLES
            frames.append(self._judged(frame))
            at += FRAME_BYTES
        if at < size:
            self._fill(data, at)
        if self._filled:
            self._look()
        return frames

    def pad(self) -> tuple[Frame, int] | None:
        """Complete the frame at hand with zeros; a split sample is kept.

        Returns:
            The frame and how many of its samples are the client's; None if there is
            no whole sample.
        """
        split = self.split
        own = self._filled // FLOAT.itemsize
        if not own:
            return None
        rest = bytes(self._buffer[self._filled - split : self._filled])
        self._buffer[own * FLOAT.itemsize :] = bytes(FRAME_BYTES - own * 4)
        frame = self._judged(np.frombuffer(bytes(self._buffer), FLOAT))
        self._buffer[:split] = rest
        self._filled, self._checked = split, 0
        return frame, own

    def _fill(self, data: bytes, at: int) -> int:
        """Copy what fits into the buffer; returns the place behind it in `data`."""
        count = min(FRAME_BYTES - self._filled, len(data) - at)
        end = self._filled + count
        self._buffer[self._filled : end] = memoryview(data)[at : at + count]
        self.samples += end // FLOAT.itemsize - self._filled // FLOAT.itemsize
        self._filled = end
        return at + count

    def _take(self) -> Frame:
        frame = np.frombuffer(bytes(self._buffer), FLOAT)
        self._filled = self._checked = 0
        return self._judged(frame)

    def _look(self) -> None:
        """Refuse nonsense at once, not when its frame is whole."""
        whole = self._filled // FLOAT.itemsize
        if whole > self._checked:
            begin, count = self._checked, whole - self._checked
            part = np.frombuffer(self._buffer, FLOAT, count, begin * FLOAT.itemsize)
            _energy(part)
            self._checked = whole

    def _judged(self, frame: Frame) -> Frame:
        energy = _energy(frame)
        if energy > LOUD:
            self.loud = True
            if energy > FULL_SCALE:
                return np.clip(frame, -1.0, 1.0)
        return frame


def _energy(samples: Frame) -> float:
    # One product tells all (a fifth of the cost of looking for extremes): what is not
    # finite makes the sum not finite. Of all products this one warns of nothing.
    energy = float(np.vdot(samples, samples))
    if not math.isfinite(energy):
        raise BadAudio("not float32 samples: some are no finite numbers (16-bit PCM?)")
    if energy > ABSURD:
        raise BadAudio("samples are far beyond -1.0 to 1.0 (integers as floats?)")
    return energy
