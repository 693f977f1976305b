# SPDX-License-Identifier: MIT
"""The shell around the session machine: tasks, time-outs, the connection's life."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable

import anyio

from ..backend import Backend, Connection, ConnectRequest, Pause, Progress
from ..errors import (
    BackendUnavailable,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
)
from ._actions import (
    AskFlush,
    AskKeepalive,
    AskReset,
    Fail,
    Leave,
    Leaving,
    Send,
    Wait,
)
from ._machine import SessionMachine
from ._outbox import Outbox
from ._signal import Signal
from .options import SessionOptions

logger = logging.getLogger("kyutai_stream.session")

LAST_WORDS_S = 0.5
"""Time to read what a connection that failed to send has already brought."""


class Runner:
    """Runs one session: connects, feeds, receives, connects again, ends.

    Must be made inside the event loop whose clock it shall use.
    """

    def __init__(
        self, backend: Backend, request: ConnectRequest, options: SessionOptions
    ) -> None:
        self._backend = backend
        self._request = request
        self._options = options
        self.machine = SessionMachine(
            backend.name, options, request.language, anyio.current_time()
        )
        self.outbox = Outbox(options.event_buffer)
        self.failure: Exception | None = None
        self.finished = False
        self._work = Signal()
        """Something to send, to connect for or to end with."""
        self._room = Signal()
        """Waiting audio became less."""
        self._opening: anyio.CancelScope | None = None
        self._flushes: dict[int, anyio.Event] = {}
        self._flushed: set[int] = set()

    # -- the caller's side -----------------------------------------------------------

    async def wait_for_room(self, duration_s: float) -> None:
        """Wait until so much audio may be pushed or the session is over."""
        while not (self.finished or self.machine.intake.has_room(duration_s)):
            await self._room.wait()

    def audio_came(self) -> None:
        """Note that audio was admitted."""
        if self.machine.intake.has_work:
            self._work.notify()

    async def flush(self, timeout_s: float) -> bool:
        """Ask for the words so far and wait; whether they came in time."""
        mark_id = self.machine.intake.request_flush()
        self._flushes[mark_id] = done = anyio.Event()
        self._work.notify()
        try:
            with anyio.move_on_after(timeout_s):
                await done.wait()
        finally:
            del self._flushes[mark_id]
        confirmed = mark_id in self._flushed
        self._flushed.discard(mark_id)
        return confirmed

    def end_input(self) -> None:
        """Note that no audio follows."""
        now = anyio.current_time()
        self.machine.intake.end_input(now)
        self._work.notify()
        if self._opening is None:
            return
        if self.machine.connect_due(now) is None:
            # Nothing was said: no need to wait for a connection.
            self._opening.cancel()
        else:
            self._opening.deadline = min(self._opening.deadline, self.machine.end_due)

    # -- life ------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to the end; a failure is kept in `failure`, never raised."""
        try:
            await self._connect_until_done()
        except Exception as exc:
            # Also what a backend should not raise: the reader gets it, typed or not.
            self.failure = exc
            logger.debug("= failed: %s", type(exc).__name__)
        self.finished = True
        detail = "" if self.failure is None else "failed"
        self.machine.end(anyio.current_time(), detail)
        for event in self.machine.events():
            self.outbox.put(event)
        self.outbox.close(self.failure)
        self._release_flushes()
        for done in self._flushes.values():
            done.set()
        self._room.notify()

    async def _connect_until_done(self) -> None:
        machine = self.machine
        while await self._wait_to_connect():
            machine.connecting()
            await self._publish()
            try:
                why = await self._connection()
            except KyutaiStreamError as exc:
                self._lost(exc)
            else:
                logger.debug("= left: %s", why.value)
                machine.left(why, anyio.current_time())
                if why is Leaving.FINISHED:
                    return

    async def _wait_to_connect(self) -> bool:
        """Wait until a connection is due; False when none is needed any more."""
        while True:
            now = anyio.current_time()
            due = self.machine.connect_due(now)
            await self._publish()
            if due is None:
                return False
            if due <= now:
                # A refusal may come without any wait.
                await anyio.lowlevel.checkpoint()
                return True
            await self._work.wait(until=due)

    def _lost(self, error: KyutaiStreamError) -> None:
        """Note a lost connection or failed attempt; raises if it was the last."""
        logger.debug("= lost: %s", type(error).__name__)
        if self.machine.lost(error, random.random(), anyio.current_time()):
            return
        if not error.retryable:
            raise error
        raise BackendUnavailable(f"gave up: {error}") from error

    async def _connection(self) -> Leaving:
        """One connection from opening to its end; raises when it is lost."""
        ready = anyio.Event()
        timeout_s = self._options.connect_timeout_s
        with anyio.move_on_after(timeout_s) as opening:
            opening.deadline = min(opening.deadline, self.machine.end_due)
            self._opening = opening
            try:
                async with self._backend.connect(self._request) as connection:
                    return await self._drive(connection, ready, opening)
            except BaseExceptionGroup as group:
                raise _first(group) from group
            finally:
                self._opening = None
        if self.machine.connect_due(anyio.current_time()) is None:
            # The input ended meanwhile, and nothing was said.
            return Leaving.FINISHED
        raise ConnectFailed(f"the recogniser was not ready in {timeout_s:g} s")

    async def _drive(
        self, connection: Connection, ready: anyio.Event, opening: anyio.CancelScope
    ) -> Leaving:
        failures: list[Exception] = []
        left: list[Leaving] = []
        heard_all = anyio.Event()

        async def receive() -> None:
            # Keeps group exceptions away: the first failure speaks for all.
            try:
                await self._receive(connection, ready)
            except Exception as exc:
                failures.append(exc)
            heard_all.set()
            tasks.cancel_scope.cancel()

        async def feed() -> None:
            await ready.wait()
            opening.deadline = math.inf
            self._opening = None
            try:
                left.append(await self._feed(connection))
            except Exception as exc:
                failures.append(exc)
                # What has arrived before the failure still counts.
                with anyio.move_on_after(LAST_WORDS_S):
                    await heard_all.wait()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            tasks.start_soon(feed)
        if left:
            return left[0]
        raise failures[0]

    async def _receive(self, connection: Connection, ready: anyio.Event) -> None:
        machine = self.machine
        async for event in connection:
            machine.receive(event, anyio.current_time())
            if machine.is_ready:
                ready.set()
            if machine.is_busy or not isinstance(event, Pause | Progress):
                self._work.notify()
            await self._publish()
        raise ConnectionLost("the recogniser ended the connection")

    async def _feed(self, connection: Connection) -> Leaving:
        machine = self.machine
        while True:
            action = machine.next_action(anyio.current_time())
            await self._publish()
            match action:
                case Send():
                    await self._bounded(connection.send(action.frame))
                    machine.sent(anyio.current_time())
                    self._room.notify()
                case AskFlush():
                    await self._bounded(connection.request_flush(action.token))
                case AskReset():
                    await self._bounded(connection.reset())
                case AskKeepalive():
                    await self._bounded(connection.keepalive())
                    machine.kept_alive(anyio.current_time())
                case Leave():
                    return action.why
                case Fail():
                    raise ConnectionLost(action.reason)
                case Wait():
                    await self._work.wait(until=action.until)

    async def _bounded(self, work: Awaitable[None]) -> None:
        timeout_s = self._options.send_timeout_s
        with anyio.move_on_after(timeout_s) as scope:
            await work
        if scope.cancelled_caught:
            raise ConnectionLost(f"the recogniser took nothing for {timeout_s:g} s")

    async def _publish(self) -> None:
        # Taken and queued without an await between: two tasks publish, and the
        # order of events must stay; a cancelled wait loses none.
        for event in self.machine.events():
            self.outbox.put(event)
        self._release_flushes()
        if self.outbox.is_full:
            await self.outbox.wait_for_room()
            self.machine.excuse(anyio.current_time())

    def _release_flushes(self) -> None:
        for mark_id in self.machine.intake.fulfilled():
            done = self._flushes.get(mark_id)
            if done is not None:
                self._flushed.add(mark_id)
                done.set()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a group that says most: one of ours, else the first."""
    leaves: list[BaseException] = []
    for exc in group.exceptions:
        leaves.append(_first(exc) if isinstance(exc, BaseExceptionGroup) else exc)
    ours = [exc for exc in leaves if isinstance(exc, KyutaiStreamError)]
    return (ours or leaves)[0]
