# SPDX-License-Identifier: MIT
"""Rates that libopus does not decode to: from 48 kHz, with FFmpeg's resampler.

Its state is kept across frames, so there is no click at their borders; what it holds
back is made up for once, at the beginning, so that every frame comes at once and whole.
"""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt

from .audio import AudioChunk
from .opus import RATES

__all__ = ["INNER_RATE", "LOWEST_RATE", "RateConverter", "inner_rate"]

INNER_RATE = 48_000
"""Hz. What is converted from; also the unit of media time."""

LOWEST_RATE = 4_000
"""Hz. Below, not even telephone speech is left."""

_HIGHEST_RATE = 192_000

_HELD_BACK = 17
"""Samples at the lower of both rates: half of the filter, and one for rounding."""


def inner_rate(sample_rate: int) -> int:
    """Return the rate to decode to for a rate that is wanted, Hz.

    Raises:
        ValueError: If there is no way to it.
    """
    if sample_rate in RATES:
        return sample_rate
    if LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
        return INNER_RATE
    raise ValueError(
        f"sample_rate must be between {LOWEST_RATE} and {_HIGHEST_RATE} Hz, "
        f"not {sample_rate}"
    )


class RateConverter:
    """Converts the chunks of one timeline.

    The sound comes about 18 samples (0.4 ms at 44.1 kHz) later in its chunks; samples
    and gaps are media time all the same.

    Args:
        sample_rate: Of what comes out, Hz, between 4 and 192 kHz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._resampler = av.AudioResampler(
            format="flt", layout="mono", rate=sample_rate
        )
        longer = max(1.0, sample_rate / INNER_RATE)
        self._ready = np.zeros(round(_HELD_BACK * longer) + 1, np.float32)
        self._end: int | None = None

    def convert(self, chunk: AudioChunk) -> AudioChunk | None:
        """Convert a chunk of 48 kHz; None if it is shorter than a sample."""
        start_ticks = round(chunk.media_time_s * INNER_RATE)
        start = start_ticks * self._rate // INNER_RATE
        end = (start_ticks + len(chunk.samples)) * self._rate // INNER_RATE
        ready = np.concatenate([self._ready, *self._resample(chunk.samples)])
        wanted = end - start
        if len(ready) < wanted:
            # Does not happen with today's FFmpeg; time must be kept nevertheless.
            ready = np.concatenate([np.zeros(wanted - len(ready), np.float32), ready])
        self._ready = ready[wanted:]
        if not wanted:
            return None
        before = self._end
        if before is None:
            before = (start_ticks - chunk.gap_samples) * self._rate // INNER_RATE
        self._end = end
        return AudioChunk(
            samples=ready[:wanted],
            sample_rate=self._rate,
            media_time_s=start / self._rate,
            gap_samples=start - before,
            concealed_ms=chunk.concealed_ms,
            audio_level=chunk.audio_level,
        )

    def _resample(
        self, samples: npt.NDArray[np.float32]
    ) -> list[npt.NDArray[np.float32]]:
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = INNER_RATE
        return [
            part.to_ndarray().reshape(-1).astype(np.float32, copy=False)
            for part in self._resampler.resample(frame)
        ]
