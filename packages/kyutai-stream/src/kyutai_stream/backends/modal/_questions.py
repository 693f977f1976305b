# SPDX-License-Identifier: MIT
"""What a gateway was asked, and by when that is answered or has failed.

A gateway of protocol 1 confirms a flush and a reset. An older one cannot be asked: a
flush is confirmed when a server that keeps up with real time must be done.
"""

from __future__ import annotations

import math
from collections import deque

from attrs import define

from ...core import FRAME_S
from ...errors import ConnectionLost

__all__ = ["Questions"]

MARGIN_S = 0.5
"""Added to the time that a server at real-time speed needs, where only time tells."""

STALL_S = 10.0
"""Without any acknowledgement for so long, an asked-for flush or reset has failed."""


@define(kw_only=True, eq=False)
class _Flush:
    token: int
    number: int
    asked: bool
    due: float


class Questions:
    """Flushes and resets without an answer, in the order of asking."""

    def __init__(self) -> None:
        self._flushes: deque[_Flush] = deque()
        self._resets = 0
        self._reset_due = math.inf
        self._last_number = 0
        self._busy_until = -math.inf

    # -- ask ---------------------------------------------------------------------

    def flush(self, token: int, now: float, *, asked: bool) -> int:
        """Note that everything sent so far is waited for.

        Args:
            token: The session's name for it.
            now: Monotonic seconds.
            asked: Whether the gateway understands the question.

        Returns:
            The number to ask under.
        """
        due = max(self._busy_until, now) + (STALL_S if asked else MARGIN_S)
        self._last_number += 1
        self._flushes.append(
            _Flush(token=token, number=self._last_number, asked=asked, due=due)
        )
        return self._last_number

    def reset(self, now: float) -> int:
        """Note that a fresh start is waited for; returns the number to ask under."""
        self._resets += 1
        self._reset_due = max(self._busy_until, now) + STALL_S
        self._last_number += 1
        return self._last_number

    # -- more time ---------------------------------------------------------------

    def sent(self, now: float) -> None:
        """Note one frame: it takes its time."""
        self._busy_until = max(self._busy_until, now) + FRAME_S

    def acknowledged(self, now: float) -> None:
        """Note that the gateway works; what it was asked may still follow."""
        for flush in self._flushes:
            if flush.asked:
                flush.due = max(flush.due, now + STALL_S)
        if self._resets:
            self._reset_due = max(self._reset_due, now + STALL_S)

    def word_came(self, now: float) -> None:
        """Note a word: more may follow, where only time tells."""
        for flush in self._flushes:
            flush.due = max(flush.due, now + MARGIN_S)

    def not_understood(self) -> None:
        """Note that flushes will not be answered: time confirms them."""
        for flush in self._flushes:
            flush.asked = False

    # -- answers -----------------------------------------------------------------

    def flushed(self, number: int | None) -> list[int]:
        """Take the flushes that an answer confirms.

        Args:
            number: The last one's number; None for all.

        Returns:
            Their tokens.
        """
        tokens = []
        while self._flushes and (number is None or self._flushes[0].number <= number):
            tokens.append(self._flushes.popleft().token)
        return tokens

    def was_reset(self) -> None:
        """Note the answer to the earliest reset."""
        self._resets -= 1
        if not self._resets:
            self._reset_due = math.inf

    @property
    def due(self) -> float:
        """When `take_due` has something; infinite for never."""
        flush = self._flushes[0].due if self._flushes else math.inf
        return min(flush, self._reset_due)

    def take_due(self, now: float) -> int | None:
        """Take one flush that time has confirmed; None if there is no more.

        Returns:
            Its token.

        Raises:
            ConnectionLost: If the gateway owes an answer and does not give it.
        """
        if self._flushes and self._flushes[0].due <= now:
            if self._flushes[0].asked:
                raise ConnectionLost(f"the gateway did not flush for {STALL_S:g} s")
            return self._flushes.popleft().token
        if self._reset_due <= now:
            raise ConnectionLost(f"the gateway did not reset for {STALL_S:g} s")
        return None
