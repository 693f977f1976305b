# SPDX-License-Identifier: MIT
"""Report lost audio once: neighbouring losses become one `Gap`."""

from __future__ import annotations

import attrs

from ..core import SAMPLE_RATE
from ..events import Gap

LONGEST_S = 30.0
"""A loss that goes on is reported in pieces of this length, so that a reader hears
of it while it lasts."""


class GapKeeper:
    """Holds the loss that may still grow."""

    def __init__(self) -> None:
        self._open: Gap | None = None
        self.total_s = 0.0
        """Seconds lost so far."""

    @property
    def is_open(self) -> bool:
        """Whether a loss may still grow."""
        return self._open is not None

    @property
    def reason(self) -> str:
        """Of the loss that may still grow."""
        return "" if self._open is None else self._open.reason

    def lose(self, start: float, end: float, reason: str) -> list[Gap]:
        """Note lost audio, media seconds.

        Returns:
            Gaps that are complete.
        """
        # Less than a sample is rounding, not audio.
        if end - start < 0.5 / SAMPLE_RATE:
            return []
        self.total_s += end - start
        last = self._open
        joins = last is not None and last.reason == reason
        if last is not None and joins and abs(last.end - start) < 1 / SAMPLE_RATE:
            self._open = attrs.evolve(last, end=end)
            done = []
        else:
            done = self.close()
            self._open = Gap(start=start, end=end, reason=reason)
        if self._open.end - self._open.start >= LONGEST_S:
            done += self.close()
        return done

    def close(self) -> list[Gap]:
        """Take the gap that cannot grow any more, if there is one."""
        gap, self._open = self._open, None
        return [] if gap is None else [gap]
