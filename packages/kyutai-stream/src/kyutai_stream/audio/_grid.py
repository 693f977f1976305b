# SPDX-License-Identifier: MIT
"""How the outputs of a change of sample rate lie among its inputs, and the filter."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from attrs import frozen

__all__ = ["Grid"]

HALF_LENGTH = 24
"""Samples of the slower rate on each side of the filter's centre."""

OUTPUTS = 48
"""Samples that a block gives, about: 2 ms."""


@frozen(kw_only=True)
class Grid:
    """A pair of rates on their common grid; blocks are always the same."""

    up: int
    down: int
    half: int
    """Of the filter, in steps of the common grid."""
    inputs: int
    """Inputs by which a block advances."""
    outputs: int
    """Outputs of a block."""
    before: int
    """Inputs before a block's first that its outputs need."""
    width: int
    """Inputs that a block's outputs need altogether."""

    @classmethod
    def of(cls, source_rate: int, target_rate: int) -> Grid:
        divisor = math.gcd(source_rate, target_rate)
        up, down = target_rate // divisor, source_rate // divisor
        wanted = HALF_LENGTH * max(up, down)
        # A multiple of `down` keeps the output grid on the input's sample 0.
        half = -(-wanted // down) * down
        outputs = up * max(1, round(OUTPUTS / up))
        before = half // up
        after = ((outputs - 1) * down + half) // up
        return cls(
            up=up,
            down=down,
            half=half,
            inputs=outputs * down // up,
            outputs=outputs,
            before=before,
            width=before + after + 1,
        )

    @property
    def is_small(self) -> bool:
        """Whether its matrix takes less than a megabyte."""
        return self.width * self.outputs <= 250_000

    def taps(self) -> npt.NDArray[np.float64]:
        """The filter, on the common grid."""
        steps = np.arange(-self.half, self.half + 1)
        cutoff = 1 / max(self.up, self.down)
        taps = np.sinc(steps * cutoff) * np.kaiser(2 * self.half + 1, 8.0)
        return np.asarray(taps * self.up / taps.sum())
