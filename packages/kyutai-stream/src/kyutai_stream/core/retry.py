# SPDX-License-Identifier: MIT
"""Decide whether and when to open the next connection."""

from __future__ import annotations

from attrs import define, field, frozen

__all__ = ["RetryPolicy", "RetryState"]


@frozen(kw_only=True)
class RetryPolicy:
    """Exponential backoff with jitter, then slow retries, and perhaps an end.

    A server that scales from zero may need a minute or more: for `budget_s` (and at
    least `attempts` times) it is tried with delays of `first_s` up to `longest_s`,
    after that every `slow_s`. Audio that comes meanwhile is kept as the session's
    options say.
    """

    attempts: int = 5
    """Failures in a row before retries may become slow."""
    first_s: float = 0.5
    """Delay after the first failure, seconds."""
    factor: float = 2.0
    """Growth from one delay to the next."""
    longest_s: float = 4.0
    """Longest delay while the budget lasts, seconds."""
    budget_s: float = 120.0
    """Seconds from the first failure before retries become slow."""
    slow_s: float = 30.0
    """Delay of slow retries, seconds."""
    give_up_s: float | None = None
    """Seconds from the first failure after which the session fails; None for never
    (a call may outlast any outage, and its state says what is wrong)."""
    stable_after_s: float = 5.0
    """A connection that worked this long clears the count of failures."""
    quick_failures: int = 3
    """Connections in a row that died younger than that: something about them,
    perhaps the audio itself, kills the server, and it is left in peace for a while."""
    quick_failure_s: float = 10.0
    """Delay after that many, seconds."""


@define(eq=False)
class RetryState:
    """What happened since a connection last worked.

    Args:
        policy: The rules.
    """

    policy: RetryPolicy
    failures: int = field(default=0, init=False)
    """Failed attempts and lost connections in a row."""
    _quick: int = field(default=0, init=False)
    _since: float | None = field(default=None, init=False)

    def lost(self, lasted_s: float | None, now: float) -> None:
        """Note a failure.

        Args:
            lasted_s: How long the connection was ready; None if it never was.
            now: Monotonic seconds.
        """
        if lasted_s is not None and lasted_s >= self.policy.stable_after_s:
            self.clear()
        elif lasted_s is not None:
            self._quick += 1
        self.failures += 1
        if self._since is None:
            self._since = now

    def clear(self) -> None:
        """Forget all failures: the connection ended on purpose."""
        self.failures = 0
        self._quick = 0
        self._since = None

    def delay_s(self, spread: float, now: float) -> float | None:
        """Seconds to wait before the next attempt.

        Args:
            spread: A random number, 0 to 1, so that many sessions that lost the
                same server do not come back at the same instant.
            now: Monotonic seconds.

        Returns:
            Half to the whole of the delay that is due, or None to give up.
        """
        policy = self.policy
        lasting = 0.0 if self._since is None else now - self._since
        if policy.give_up_s is not None and lasting >= policy.give_up_s:
            return None
        if self.is_slow(now):
            full = policy.slow_s
        elif self._quick >= policy.quick_failures:
            full = policy.quick_failure_s
        else:
            # The exponent is bounded: a float would overflow after days.
            steps = min(self.failures - 1, 32)
            full = min(policy.longest_s, policy.first_s * policy.factor**steps)
        return full * (0.5 + 0.5 * spread)

    def is_slow(self, now: float) -> bool:
        """Whether the budget is spent and retries are rare."""
        spent = self._since is not None and now - self._since >= self.policy.budget_s
        return spent and self.failures >= self.policy.attempts
