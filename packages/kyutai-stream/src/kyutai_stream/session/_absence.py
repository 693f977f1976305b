# SPDX-License-Identifier: MIT
"""The time without a connection: why there is none, and when the next one is due."""

from __future__ import annotations

import math

from ..core import RetryState
from ..events import SessionState
from .options import SessionOptions

NEVER = math.inf


class Absence:
    """Decides when to connect, and how long an ended session may wait.

    Args:
        options: The session's.
        now: Monotonic seconds.
    """

    def __init__(self, options: SessionOptions, now: float) -> None:
        self._options = options
        self._retry = RetryState(options.retry)
        self._connect_at = now
        self._ended_at: float | None = None
        self._news_at = now
        self._was_ready = False
        self.is_cold = True
        """Whether a server may have to start from zero."""
        self.is_idle = False
        """Whether the place was given back because nobody speaks."""
        self.detail = ""
        """Why there is no connection, for people."""

    # -- what happened -------------------------------------------------------------

    def ready(self, now: float) -> None:
        """Note that a connection became ready."""
        if not self._was_ready:
            self._news_at = now
        self._was_ready = True
        self.is_cold = False
        self.detail = ""

    def failed(
        self, error: Exception, lasted_s: float | None, spread: float, now: float
    ) -> bool:
        """Note a lost connection or a failed attempt.

        Args:
            error: Why.
            lasted_s: How long the connection was ready; None if it never was.
            spread: A random number, 0 to 1.
            now: Monotonic seconds.

        Returns:
            Whether there will be another attempt.
        """
        self._retry.lost(lasted_s, now)
        delay_s = self._retry.delay_s(spread, now)
        if delay_s is None or not getattr(error, "retryable", False):
            return False
        slow_s = self._options.retry.slow_s
        asked_s = getattr(error, "retry_after_s", None) or 0.0
        self._connect_at = now + max(delay_s, min(asked_s, slow_s))
        self.detail = str(error)
        if self._retry.is_slow(now):
            self.detail += f" (trying every {slow_s:g} s)"
        return True

    def planned(self, now: float) -> None:
        """Note that a connection ended as planned: the next one may follow."""
        self._retry.clear()
        self._connect_at = now

    def went_idle(self) -> None:
        """Note that nobody speaks."""
        self.is_cold = self.is_idle = True

    def ended(self, now: float) -> None:
        """Note that no audio follows."""
        if self._ended_at is None:
            self._ended_at = now

    def news(self, now: float) -> None:
        """Note that new audio got on, or a new word came."""
        self._news_at = now

    # -- what follows ----------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether no audio follows."""
        return self._ended_at is not None

    @property
    def state(self) -> SessionState:
        """What a session without connection is called."""
        first = not (self._was_ready or self._retry.failures)
        return SessionState.CONNECTING if first else SessionState.RECONNECTING

    @property
    def end_due(self) -> float:
        """When an ended session no longer waits for progress; infinite before."""
        if self._ended_at is None:
            return NEVER
        options = self._options
        patience_s = options.cold_start_s if self.is_cold else options.end_timeout_s
        return max(self._ended_at, self._news_at) + patience_s

    @property
    def connect_due(self) -> float:
        """When to open a connection; infinite while nobody speaks."""
        return NEVER if self.is_idle else min(self._connect_at, self.end_due)
