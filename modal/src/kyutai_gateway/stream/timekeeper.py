# SPDX-License-Identifier: MIT
"""Look at the clock for one stream: do what is due, end what is stuck."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from .machine import StreamMachine
from .pusher import Pusher
from .rules import StreamRules
from .teller import Teller

__all__ = ["TimeKeeper"]

SHORTEST_WAIT_S = 0.01


class TimeKeeper:
    """Waits for a machine's deadlines, and never for anybody else.

    Args:
        machine: Says when something is due.
        rules: How long anything may be stuck.
        clock: Seconds.
        pusher: Looked at, whether the model takes its audio.
        teller: Looked at, whether the client reads.
        push: Does what is to be done upstream.
        tell: Tells the client what waits.
        ended: Called when the stream has ended.
        stop: Called when there is nobody to tell anything to any more.
    """

    def __init__(
        self,
        *,
        machine: StreamMachine,
        rules: StreamRules,
        clock: Callable[[], float],
        pusher: Pusher,
        teller: Teller,
        push: Callable[[], Awaitable[None]],
        tell: Callable[[], Awaitable[None]],
        ended: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._rules = rules
        self._clock = clock
        self._pusher = pusher
        self._teller = teller
        self._push = push
        self._tell = tell
        self._ended = ended
        self._stop = stop
        self._timer: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Do so until cancelled."""
        machine = self._machine
        while True:
            now = await self._until_due()
            self._check_stuck(now)
            machine.tick(now, blocked=self._teller.since is not None)
            # Whoever keeps the time must not be kept waiting.
            if not await self._in_time(self._push):
                self._wedged()
            if machine.ending is not None:
                self._ended()
            if machine.outbox or machine.ending is not None:
                if not await self._in_time(self._tell):
                    self._not_read()

    def look(self) -> None:
        """See whether something is due sooner than the timer knows."""
        machine, timer = self._machine, self._timer
        machine.timers.hurry = False
        if timer is not None and machine.deadline < timer.deadline:
            timer.deadline = machine.deadline

    def ring(self) -> None:
        """Do what is due now."""
        if self._timer is not None:
            self._timer.deadline = self._clock()

    async def _until_due(self) -> float:
        now = self._clock()
        # Frames move deadlines back and forth; nobody looks at them each time.
        deadline = min(self._machine.deadline, now + self._rules.wedged_s / 2)
        deadline = max(deadline, now + SHORTEST_WAIT_S)
        with anyio.CancelScope(deadline=deadline) as self._timer:
            await anyio.sleep_forever()
        self._timer = None
        return self._clock()

    async def _in_time(self, what: Callable[[], Awaitable[None]]) -> bool:
        with anyio.move_on_after(self._rules.send_timeout_s) as patience:
            await what()
        return not patience.cancelled_caught

    def _check_stuck(self, now: float) -> None:
        longest = self._rules.send_timeout_s
        telling, pushing = self._teller.since, self._pusher.since
        if telling is not None and now - telling >= longest:
            self._not_read()
        elif pushing is not None and now - pushing >= longest:
            self._wedged()

    def _not_read(self) -> None:
        """The client does not read: nothing can be told to it any more."""
        self._machine.abandon()
        self._stop()

    def _wedged(self) -> None:
        what = "the model server takes no audio"
        self._machine.fail("upstream_wedged", what)
