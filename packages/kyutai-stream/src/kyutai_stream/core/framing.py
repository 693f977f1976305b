# SPDX-License-Identifier: MIT
"""Cut any chunking of samples into exact frames of 1920."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FRAME_S", "FRAME_SAMPLES", "SAMPLE_RATE", "Framer"]

SAMPLE_RATE = 24_000
"""Samples per second of everything behind the session's front door."""

FRAME_SAMPLES = 1920
"""Samples per frame: one step of the Kyutai models (12.5 Hz)."""

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE
"""Seconds per frame, 0.08."""


class Framer:
    """Collects samples and hands out frames of exactly 1920.

    The frames depend on the samples alone, never on how they were cut into
    chunks. Fewer than one frame is ever kept back.
    """

    def __init__(self) -> None:
        self._rest = np.zeros(FRAME_SAMPLES, dtype=np.float32)
        self._held = 0

    @property
    def pending(self) -> int:
        """Samples held back, 0 to 1919."""
        return self._held

    def push(self, samples: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Add samples and take the frames they complete.

        Args:
            samples: Mono PCM, float32, shape `(n,)`, 24 000 Hz.

        Returns:
            Frames of shape `(1920,)`, each owning its memory.
        """
        frames = []
        position = 0
        while position < len(samples):
            take = min(FRAME_SAMPLES - self._held, len(samples) - position)
            part = samples[position : position + take]
            self._rest[self._held : self._held + take] = part
            self._held += take
            position += take
            if self._held == FRAME_SAMPLES:
                frames.append(self._rest)
                self._rest = np.zeros(FRAME_SAMPLES, dtype=np.float32)
                self._held = 0
        return frames

    @property
    def padding(self) -> int:
        """Zeros that would complete the frame held back, 0 to 1919."""
        return -self._held % FRAME_SAMPLES
