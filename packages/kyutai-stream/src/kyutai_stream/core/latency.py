# SPDX-License-Identifier: MIT
"""Measure delays without keeping them: bounded memory, whatever the session's age."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from itertools import accumulate

from attrs import frozen

__all__ = ["ArrivalClock", "Delays", "DelaySummary"]

SMALLEST_S = 0.001
GROWTH = 1.05
"""Width of a class: percentiles are right within 5 %."""
CLASSES = 250
"""From 1 ms to about 200 s."""

STEP_S = 0.08
KEPT = 2_000
"""Arrivals remembered: 160 s of audio."""


@frozen(kw_only=True)
class DelaySummary:
    """How long something took; seconds, NaN where nothing was measured."""

    count: int
    """Measurements."""
    mean_s: float
    """Mean."""
    p50_s: float
    """Median, right within 5 %, as are the others."""
    p95_s: float
    """95th percentile."""
    p99_s: float
    """99th percentile."""
    max_s: float
    """Largest."""


class Delays:
    """A histogram with logarithmic classes."""

    def __init__(self) -> None:
        self._classes = [0] * CLASSES
        self._count = 0
        self._sum = 0.0
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Note one measurement; negative ones count as 0."""
        seconds = max(0.0, seconds)
        place = 0
        if seconds > SMALLEST_S:
            place = math.ceil(math.log(seconds / SMALLEST_S, GROWTH))
        self._classes[min(place, CLASSES - 1)] += 1
        self._count += 1
        self._sum += seconds
        self._max = max(self._max, seconds)

    def summary(self) -> DelaySummary:
        """Sum up what was measured so far."""
        mean = self._sum / self._count if self._count else math.nan
        return DelaySummary(
            count=self._count,
            mean_s=mean,
            p50_s=self._percentile(0.50),
            p95_s=self._percentile(0.95),
            p99_s=self._percentile(0.99),
            max_s=self._max if self._count else math.nan,
        )

    def _percentile(self, share: float) -> float:
        if not self._count:
            return math.nan
        # The first class with which so many are reached.
        place = bisect_left(list(accumulate(self._classes)), share * self._count)
        return min(self._max, SMALLEST_S * GROWTH**place)


class ArrivalClock:
    """Remembers when which media time was admitted.

    A ring of plain doubles, as large from the first step as it ever gets: a process
    with many sessions does not grow while they become older.
    """

    def __init__(self) -> None:
        self._media_ends = array("d", bytes(8 * KEPT))
        self._times = array("d", bytes(8 * KEPT))
        self._count = 0
        self._last = -math.inf

    def admitted(self, media_end: float, now: float) -> None:
        """Note that audio up to a media time has been admitted."""
        # A little less than a step: times come as decimal seconds.
        if media_end - self._last < 0.9 * STEP_S:
            return
        self._last = media_end
        place = self._count % KEPT
        self._media_ends[place] = media_end
        self._times[place] = now
        self._count += 1

    def at(self, media_time: float) -> float | None:
        """When that media time was admitted; None if it is not remembered."""
        found = None
        for index in range(self._count - 1, max(0, self._count - KEPT) - 1, -1):
            if self._media_ends[index % KEPT] < media_time:
                return found
            found = self._times[index % KEPT]
        # Older than all that is remembered, unless nothing was forgotten yet.
        return found if self._count < KEPT else None
