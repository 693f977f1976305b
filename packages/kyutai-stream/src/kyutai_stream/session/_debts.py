# SPDX-License-Identifier: MIT
"""What the recogniser owes on a connection, and by when it has to have answered."""

from __future__ import annotations

import math

from ..core import Ledger
from .options import SessionOptions


class Debts:
    """Frames to acknowledge, flushes and a reset to confirm, in one epoch.

    Whatever shows that it works gives it more time for the rest.

    Args:
        options: The session's.
        ledger: Knows which frames are under way.
        now: Monotonic seconds.
    """

    def __init__(self, options: SessionOptions, ledger: Ledger, now: float) -> None:
        self._options = options
        self._ledger = ledger
        self._flushes: dict[int, float] = {}
        self._reset_due: float | None = None
        self._alive_at = now

    # -- what was asked, what came -----------------------------------------------------

    def asked_flush(self, token: int, now: float) -> None:
        """Note that a flush was asked for."""
        self._flushes[token] = now

    def asked_reset(self, now: float) -> None:
        """Note that a reset was asked for."""
        self._reset_due = now + self._options.send_timeout_s

    def flushed(self, token: int, now: float) -> float | None:
        """Note the confirmation of a flush.

        Returns:
            Seconds it took; None if nobody asked for it in this epoch.
        """
        asked = self._flushes.pop(token, None)
        if asked is None:
            return None
        self.alive(now)
        return now - asked

    def alive(self, now: float) -> None:
        """Note that it works, or that nobody could know."""
        self._alive_at = now

    # -- what is the case --------------------------------------------------------------

    @property
    def is_resetting(self) -> bool:
        """Whether a reset was asked for and not confirmed: nothing may be sent."""
        return self._reset_due is not None

    @property
    def awaits_flush(self) -> bool:
        """Whether a flush is outstanding."""
        return bool(self._flushes)

    @property
    def are_open(self) -> bool:
        """Whether an acknowledgement or a flush is outstanding."""
        return bool(self._flushes or self._ledger.in_flight)

    def failure(self, now: float) -> str | None:
        """Why the connection cannot go on; None if it can."""
        if self._reset_due is not None:
            late = now >= self._reset_due
            return "the recogniser did not confirm a reset" if late else None
        if now < self._owed_by:
            return None
        if self._ledger.in_flight:
            timeout_s = self._options.progress_timeout_s
            return f"the recogniser acknowledged nothing for {timeout_s:g} s"
        return "the recogniser did not confirm a flush"

    @property
    def due(self) -> float:
        """When there will be a `failure` if nothing comes."""
        # During a reset nothing else is asked: what is owed came before it.
        return self._owed_by if self._reset_due is None else self._reset_due

    @property
    def _owed_by(self) -> float:
        if self._ledger.in_flight:
            return self._alive_at + self._options.progress_timeout_s
        if self._flushes:
            asked = max(next(iter(self._flushes.values())), self._alive_at)
            return asked + self._options.send_timeout_s
        return math.inf
