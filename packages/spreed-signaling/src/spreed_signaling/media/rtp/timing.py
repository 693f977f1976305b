# SPDX-License-Identifier: MIT
"""What arrival times say about a stream: jitter, and the drift of the sender's clock.

Nothing is corrected here: audio is handed on by its timestamps, and a recogniser
does not mind 100 ppm. A drift that is seen explains lags that grow for hours.
"""

from __future__ import annotations

from collections import deque

__all__ = ["StreamTiming"]

_RATE = 48_000
"""Hz, the RTP clock of Opus (RFC 7587, section 4.1)."""

_WINDOW_S = 10.0
"""The fastest packet of so long stands for the path without queues."""

_WINDOWS = 30
"""Five minutes are looked at."""

_STOOD_STILL_S = 0.5
"""A packet so much later than its timestamp says comes after a pause of the sender's
clock. Chromium without a track, which is how Talk mutes, goes on with the next
timestamp as if no time had passed (measured with Chromium 156)."""

_FEWEST = 3
"""Windows from which a slope means something."""


class StreamTiming:
    """Follows one stream; `restart` when its timestamps begin anew."""

    def __init__(self) -> None:
        self.jitter_s = 0.0
        """Mean deviation of the spacing of packets (RFC 3550, section 6.4.1)."""
        self._last: tuple[int, float] | None = None
        self._elapsed = 0
        self._origin = 0.0
        self._fastest: tuple[float, float] | None = None
        self._window_ends = 0.0
        self._points: deque[tuple[float, float]] = deque(maxlen=_WINDOWS)

    def restart(self) -> None:
        """The next packet belongs to a stream with timestamps of its own."""
        self._last = self._fastest = None
        self._points.clear()

    def observe(self, timestamp: int, now: float) -> None:
        """Take the timestamp and the arrival of a packet, in order of arrival."""
        if self._last is None:
            self._last = (timestamp, now)
            self._elapsed, self._origin = 0, now
            self._window_ends = now + _WINDOW_S
            return
        before, seen_at = self._last
        step = ((timestamp - before + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        if now - seen_at - step / _RATE > _STOOD_STILL_S:
            # That is neither jitter nor drift.
            self.restart()
            self.observe(timestamp, now)
            return
        self._last = (timestamp, now)
        self._elapsed += step
        deviation = abs(now - seen_at - step / _RATE)
        self.jitter_s += (deviation - self.jitter_s) / 16
        delay = now - self._origin - self._elapsed / _RATE
        if self._fastest is None or delay < self._fastest[1]:
            self._fastest = (now, delay)
        if now >= self._window_ends:
            self._points.append(self._fastest)
            self._fastest = None
            self._window_ends = now + _WINDOW_S

    @property
    def drift_ppm(self) -> float | None:
        """How much slower the sender's clock is than ours, parts per million.

        Least squares over the fastest packets of ten seconds each; None before
        half a minute has passed.
        """
        count = len(self._points)
        if count < _FEWEST:
            return None
        mean_x = sum(x for x, _ in self._points) / count
        mean_y = sum(y for _, y in self._points) / count
        spread = sum((x - mean_x) ** 2 for x, _ in self._points)
        if spread == 0:
            return None
        slope = sum((x - mean_x) * (y - mean_y) for x, y in self._points) / spread
        return slope * 1e6
