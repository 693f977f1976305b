# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which room may try to open a session while the signaling server refuses us.

All rooms come from one address with one secret, and the server blocks an address
after ten refused hellos within 30 minutes. So the whole process counts together:
until a hello was accepted one room at a time tries for all; a refusal closes the
gate for some minutes, or until a person asks; an accepted hello opens it for all.

`GateCore` decides and never waits or reads a clock; `Gate` waits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import anyio
from attrs import field, frozen

from spreed_signaling import HelloRefused, TooManyAttempts
from spreed_signaling.protocol.backoff import REFUSED_DELAY_S

__all__ = ["Gate", "GateCore", "GateRules", "RetryBudget", "Visitor"]


class RetryBudget:
    """How often people may make us try a refused secret again.

    Args:
        limit: Attempts within the window.
        window_s: Seconds.
        pause_s: Least seconds between two attempts.
    """

    def __init__(
        self, *, limit: int = 6, window_s: float = 1800.0, pause_s: float = 1.0
    ) -> None:
        self._times: deque[float] = deque(maxlen=limit)
        self._limit = limit
        self._window_s = window_s
        self._pause_s = pause_s

    def take(self, now: float) -> bool:
        """Count an attempt; False if it must not be made."""
        while self._times and now >= self._times[0] + self._window_s:
            self._times.popleft()
        if self._times and now < self._times[-1] + self._pause_s:
            return False
        if len(self._times) >= self._limit:
            return False
        self._times.append(now)
        return True


@frozen(kw_only=True)
class GateRules:
    """How often refused hellos may happen; times in seconds.

    Source:
        HPB 2.0.2 blocks an address after ten failed hellos within 30 minutes.
    """

    pause_s: float = REFUSED_DELAY_S
    """Least time between two attempts that nobody asked for."""
    blocked_s: float = 1800.0
    """The same after the server has said that it blocks our address."""
    window_s: float = 1800.0
    """How long the server remembers a refused hello."""
    own_limit: int = 6
    """Refusals within the window that leave the rest to people."""
    limit: int = 9
    """Refusals within the window after which nothing is tried at all."""
    budget: Callable[[], RetryBudget] = field(default=RetryBudget, repr=False)
    """Makes the budget for people."""


@frozen(kw_only=True, eq=False)
class Visitor:
    """A room that wants a session; compared by identity."""

    hurry: Callable[[], None]
    """Called when a person asked while this room tries for all."""


class GateCore:
    """The decisions: no clock, no waiting.

    Args:
        rules: How often is too often.
    """

    def __init__(self, rules: GateRules) -> None:
        self._rules = rules
        self._budget = rules.budget()
        self._refusals: deque[float] = deque()
        self._due = -math.inf
        self.open = False
        """Whether a hello was accepted since the last refusal."""
        self.reason = ""
        """Why we are refused, in plain words; empty while we are not known to be."""
        self.trying: Visitor | None = None
        """Who tries for all."""

    def enter(self, who: Visitor, now: float) -> bool:
        """Whether this room may open sockets now; if so, until `leave`."""
        if self.open or self.trying is who:
            return True
        if self.trying is not None or now < self._due:
            return False
        self.trying = who
        return True

    def leave(self, who: Visitor) -> None:
        """This room tries no more."""
        if self.trying is who:
            self.trying = None

    def may_stay(self, who: Visitor) -> bool:
        """Whether this room, without a session, may go on opening sockets.

        Rooms that had a session when the trouble began may, until a refusal.
        """
        return not self.reason or self.trying is who

    def accepted(self) -> None:
        """A hello was accepted: everybody may go."""
        self.open, self.reason, self.trying = True, "", None
        self._due = -math.inf

    def refused(self, who: Visitor, error: HelloRefused, now: float) -> None:
        """A hello was refused for a reason that does not pass by itself."""
        rules = self._rules
        self.leave(who)
        self._refusals.append(now)
        self._forget(now)
        blocked = isinstance(error, TooManyAttempts)
        pause_s = rules.blocked_s if blocked else rules.pause_s
        # A late answer to another room must not shorten the pause.
        due = now + pause_s if self.open else max(self._due, now + pause_s)
        if len(self._refusals) >= rules.own_limit:
            due = max(due, self._refusals[-rules.own_limit] + rules.window_s)
        self.open, self.reason, self._due = False, str(error), due

    def press(self, now: float) -> bool:
        """A person asked; whether that makes a room try at once."""
        self._forget(now)
        if not self.reason or self.trying is not None:
            return False
        if len(self._refusals) >= self._rules.limit or not self._budget.take(now):
            return False
        self._due = min(self._due, now)
        return True

    def deadline(self) -> float | None:
        """When `enter` can succeed without news; None while somebody tries."""
        return None if self.trying is not None else self._due

    def _forget(self, now: float) -> None:
        while self._refusals and now >= self._refusals[0] + self._rules.window_s:
            self._refusals.popleft()


class Gate:
    """Lets rooms wait for their turn; one for the process, on one event loop.

    Args:
        rules: How often is too often.
    """

    def __init__(self, rules: GateRules | None = None) -> None:
        self._core = GateCore(GateRules() if rules is None else rules)
        self._changed = anyio.Event()
        self._trouble = ""

    async def wait_turn(self, who: Visitor) -> None:
        """Wait until this room may open sockets; call `leave` afterwards.

        Cancellation-safe; any number of rooms may wait.
        """
        core = self._core
        while not core.enter(who, anyio.current_time()):
            changed, until = self._changed, core.deadline()
            with anyio.CancelScope(deadline=math.inf if until is None else until):
                await changed.wait()

    async def wait_change(self) -> None:
        """Wait until something else holds; cancellation-safe."""
        await self._changed.wait()

    def may_stay(self, who: Visitor) -> bool:
        """Whether this room, without a session, may go on opening sockets."""
        return self._core.may_stay(who)

    def leave(self, who: Visitor) -> None:
        """This room tries no more."""
        self._core.leave(who)
        self._notify()

    def accepted(self) -> None:
        """A hello was accepted."""
        self._trouble = ""
        self._core.accepted()
        self._notify()

    def refused(self, who: Visitor, error: HelloRefused) -> None:
        """A hello was refused for a reason that does not pass by itself."""
        self._core.refused(who, error, anyio.current_time())
        self._notify()

    def failed(self, who: Visitor, text: str) -> None:
        """An attempt failed for a reason that may pass; for `describe`."""
        if self._core.trying is who:
            self._trouble = text

    def press(self) -> None:
        """A person asked: skip the pause, as far as that is safe."""
        self._core.press(anyio.current_time())
        trying = self._core.trying
        if trying is not None:
            trying.hurry()
        self._notify()

    def describe(self) -> tuple[str, str]:
        """Return state and detail of a room that waits, for people."""
        core = self._core
        if not core.reason:
            return "connecting", self._trouble
        until = core.deadline()
        if until is None:
            return "refused", f"{core.reason}; trying again now"
        wait_s = max(0.0, until - anyio.current_time())
        return "refused", f"{core.reason}; next attempt in {wait_s:.0f} s"

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
