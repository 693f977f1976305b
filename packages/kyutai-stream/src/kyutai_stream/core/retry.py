# SPDX-License-Identifier: MIT
"""Decide whether and when to open the next connection."""

from __future__ import annotations

from attrs import frozen

__all__ = ["RetryPolicy"]


@frozen(kw_only=True)
class RetryPolicy:
    """Exponential backoff with jitter, and an end to it."""

    attempts: int = 5
    """Consecutive failures after which the session gives up."""
    first_s: float = 0.5
    """Delay after the first failure, seconds."""
    factor: float = 2.0
    """Growth from one delay to the next."""
    longest_s: float = 8.0
    """Longest delay, seconds."""
    stable_after_s: float = 5.0
    """A connection that worked this long clears the count of failures."""

    def delay_s(self, failures: int, spread: float) -> float | None:
        """Seconds to wait after the given number of consecutive failures.

        Args:
            failures: Failures in a row, the latest included; at least 1.
            spread: A random number, 0 to 1, so that many sessions that lost the
                same server do not come back at the same instant.

        Returns:
            Half to the whole of the exponential delay, or None to give up.
        """
        if failures >= self.attempts:
            return None
        full = min(self.longest_s, self.first_s * self.factor ** (failures - 1))
        return full * (0.5 + 0.5 * spread)
