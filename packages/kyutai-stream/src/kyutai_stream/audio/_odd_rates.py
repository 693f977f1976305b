# SPDX-License-Identifier: MIT
"""Pairs of rates with hardly a common divisor, such as 44 101 to 24 000 Hz.

Their matrix would be huge; scipy's polyphase routine does it, slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BackendUnavailable
from ._format import Samples
from ._grid import Grid

__all__ = ["OddRates"]

_Upfirdn = Callable[[Samples, Samples, int, int], npt.NDArray[Any]]


class OddRates:
    """Filters what is held anew with each push, as far as it reaches.

    Args:
        grid: The rates.

    Raises:
        BackendUnavailable: If scipy is not installed (extra `resample`).
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._upfirdn = _routine()
        self._taps = grid.taps().astype(np.float32)
        self._held = np.zeros(0, dtype=np.float32)
        self._held_from = 0
        self._taken = 0
        self._given = 0
        self.longest_lag = -(-grid.half // grid.up) + 1
        self.tail = self.longest_lag + grid.down

    def push(self, samples: Samples) -> Samples:
        """Convert more audio; see `Resampler.push`."""
        grid = self._grid
        self._held = np.concatenate((self._held, samples))
        self._taken += len(samples)
        # Output m sits at m·down on the grid of up-times as many samples; its
        # filter reaches `half` further than that.
        until = ((self._taken - 1) * grid.up - grid.half) // grid.down + 1
        if until <= self._given:
            return np.zeros(0, dtype=np.float32)
        filtered = self._upfirdn(self._taps, self._held, grid.up, grid.down)
        shift = (grid.half - self._held_from * grid.up) // grid.down
        out = filtered[shift + self._given : shift + until]
        self._given = until
        self._forget()
        return np.asarray(out, dtype=np.float32)

    def _forget(self) -> None:
        grid = self._grid
        needed = (self._given * grid.down - grid.half) // grid.up
        first = max(0, needed // grid.down * grid.down)
        if first > self._held_from:
            self._held = self._held[first - self._held_from :]
            self._held_from = first


def _routine() -> _Upfirdn:
    try:
        from scipy.signal import upfirdn
    except ImportError as exc:
        raise BackendUnavailable(
            "changing this sample rate needs scipy: install kyutai-stream[resample]"
        ) from exc
    return upfirdn
