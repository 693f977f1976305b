# SPDX-License-Identifier: MIT
"""When the next socket is due, and what went wrong with the last one."""

from __future__ import annotations

import math
import random

from ..errors import SignalingError
from .backoff import ReconnectDelays
from .events import Disconnected

__all__ = ["Attempts"]


class Attempts:
    """The plan for the next attempt to connect.

    Args:
        stable_s: A session that was open this long ends an outage, seconds.
        jitter: Source of randomness for the delays between attempts.
    """

    def __init__(self, stable_s: float, jitter: random.Random) -> None:
        self.delays = ReconnectDelays(jitter)
        self.error: SignalingError | None = None
        """The last problem, until it is solved."""
        self._stable_s = stable_s
        # Due at once, whatever the clock shows.
        self._retry_at: float | None = -math.inf
        self._ready_at = 0.0

    @property
    def retry_at(self) -> float | None:
        """When the next attempt is due; None if none is planned, or it is the first."""
        return None if self._retry_at == -math.inf else self._retry_at

    @property
    def planned(self) -> bool:
        """Whether there will be an attempt without anything else happening."""
        return self._retry_at is not None

    def deadline(self) -> float | None:
        """Return when the shell must be asked to connect; None if never."""
        return self._retry_at

    def due(self, now: float) -> bool:
        """Whether the next attempt should be made now."""
        return self._retry_at is not None and now >= self._retry_at

    def begin(self) -> None:
        """The attempt is being made."""
        self._retry_at = None

    def succeeded(self, now: float) -> None:
        """A session is open."""
        self.error = None
        self._ready_at = now

    def session_lost(self, now: float) -> None:
        """The open session lost its socket; one that had lasted ends an outage."""
        if now - self._ready_at >= self._stable_s:
            self.delays.reset()

    def plan(
        self, error: SignalingError, now: float, delay: float | None = None
    ) -> Disconnected:
        """Plan the next attempt; returns what to tell the application.

        Args:
            error: Why one is needed.
            now: Monotonic seconds.
            delay: Seconds until then; if not given, longer with each attempt.
        """
        delay = self.delays.next() if delay is None else delay
        self.error = error
        self._retry_at = now + delay
        return Disconnected(error=error, retry_in_s=delay)

    def retry_now(self, now: float) -> None:
        """Do not wait for the next attempt."""
        if self._retry_at is not None:
            self._retry_at = min(self._retry_at, now)
