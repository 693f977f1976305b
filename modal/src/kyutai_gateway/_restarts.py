# SPDX-License-Identifier: MIT
"""When a server that failed is started again, and when no more."""

from __future__ import annotations

from collections import deque

__all__ = ["RestartPolicy"]

LONGEST_PAUSE_S = 30.0


class RestartPolicy:
    """At most so many restarts within a window, with growing pauses before them.

    Args:
        limit: Restarts within the window.
        window_s: Its length, seconds.
        backoff_s: Pause before the first restart in it; doubles with each.
    """

    def __init__(self, *, limit: int, window_s: float, backoff_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._backoff_s = backoff_s
        self._recent: deque[float] = deque()
        self.count = 0
        """Restarts altogether."""

    def failed(self, now: float) -> float | None:
        """Decide what follows a failure.

        Returns:
            Seconds to wait before the next start, None to give up.
        """
        while self._recent and self._recent[0] <= now - self._window_s:
            self._recent.popleft()
        before = len(self._recent)
        if before >= self._limit:
            return None
        self._recent.append(now)
        self.count += 1
        return float(min(LONGEST_PAUSE_S, self._backoff_s * 2**before))
