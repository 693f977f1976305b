# SPDX-License-Identifier: MIT
"""The shell around the session machine: tasks, time-outs, the connection's life."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterable

import anyio

from ..backend import Backend, Connection, ConnectRequest
from ..errors import (
    BackendUnavailable,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
)
from ._inbox import EndMark, FlushMark, Inbox
from ._machine import Chunk, Samples, SessionMachine
from ._outbox import Outbox
from .options import SessionOptions

logger = logging.getLogger("kyutai_stream.session")

LAST_WORDS_S = 0.5
"""Time to read what a connection that failed to send has already brought."""

Clock = Callable[[], float]


class Runner:
    """Runs one session: connects, feeds, receives, connects again, ends."""

    def __init__(
        self,
        backend: Backend,
        request: ConnectRequest,
        options: SessionOptions,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self._backend = backend
        self._request = request
        self._options = options
        self.clock = clock
        self.machine = SessionMachine(backend.name, backend.capabilities, options)
        self.inbox = Inbox(options.input_buffer_s)
        self.outbox = Outbox(options.event_buffer)
        self.failure: Exception | None = None
        self.finished = False
        self.playout = -math.inf
        """When the audio pushed so far would have been played, on `clock`."""
        self._ending = False
        self._flushing: dict[int, FlushMark] = {}
        self._last_sent = clock()

    async def run(self) -> None:
        """Run to the end; a failure is kept in `failure`, never raised."""
        try:
            await self._connect_until_done()
        except Exception as exc:
            # Also what a backend should not raise: the reader gets it, typed or not.
            self.failure = exc
            logger.debug("= failed: %s", type(exc).__name__)
        self.finished = True
        self._release_flushes()
        for chunk in self.inbox.close():
            self.machine.abandon(chunk)
        self.machine.end(self.clock(), "" if self.failure is None else "failed")
        for event in self.machine.events():
            self.outbox.put(event)
        self.outbox.close(self.failure)

    async def _connect_until_done(self) -> None:
        while True:
            self.machine.connecting()
            await self._publish()
            try:
                await self._connection()
                return
            except KyutaiStreamError as exc:
                delay_s = await self._after_loss(exc)
            if delay_s is None:
                return
            await anyio.sleep(delay_s)

    async def _after_loss(self, error: KyutaiStreamError) -> float | None:
        """Seconds until the next attempt, None if the input was over anyway."""
        logger.debug("= lost: %s", type(error).__name__)
        self.machine.lost(error, self.clock())
        self._release_flushes()
        await self._publish()
        if self._ending:
            return None
        if not error.retryable:
            raise error
        delay_s = self.machine.retry_delay_s(random.random())
        if delay_s is None:
            raise BackendUnavailable(f"gave up: {error}") from error
        return delay_s

    async def _connection(self) -> None:
        """One connection from opening to graceful end; raises when it is lost."""
        ready = anyio.Event()
        with anyio.move_on_after(self._options.connect_timeout_s) as opening:
            try:
                async with self._backend.connect(self._request) as connection:
                    await self._drive(connection, ready, opening)
            except BaseExceptionGroup as group:
                raise _first(group) from group
        if opening.cancelled_caught:
            raise ConnectFailed(
                f"the recogniser was not ready in {self._options.connect_timeout_s:g} s"
            )

    async def _drive(
        self, connection: Connection, ready: anyio.Event, opening: anyio.CancelScope
    ) -> None:
        failures: list[Exception] = []
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
            try:
                await self._feed(connection)
            except Exception as exc:
                failures.append(exc)
                # What has arrived before the failure still counts.
                with anyio.move_on_after(LAST_WORDS_S):
                    await heard_all.wait()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            tasks.start_soon(feed)
        if failures:
            raise failures[0]

    async def _receive(self, connection: Connection, ready: anyio.Event) -> None:
        async for event in connection:
            token = self.machine.receive(event, self.clock())
            if self.machine.is_ready:
                ready.set()
            await self._publish()
            if token is not None and token in self._flushing:
                self._flushing.pop(token).release(confirmed=True)
        raise ConnectionLost("the recogniser ended the connection")

    async def _feed(self, connection: Connection) -> None:
        while True:
            item = None
            with anyio.move_on_after(self._patience_s()):
                item = await self.inbox.get()
            match item:
                case Chunk():
                    await self._send(connection, self.machine.feed(item))
                case FlushMark():
                    await self._flush(connection, item)
                case EndMark():
                    await self._end(connection)
                    return
                case None:
                    await self._idle(connection)
            await self._publish()

    def _patience_s(self) -> float:
        """Seconds to wait for audio before something else is due."""
        now = self.clock()
        due = math.inf
        if self.machine.unflushed:
            due = self.playout + self._options.stall_s
        keepalive_s = self._backend.capabilities.keepalive_interval_s
        if keepalive_s is not None:
            due = min(due, self._last_sent + keepalive_s)
        return max(0.0, due - now)

    async def _idle(self, connection: Connection) -> None:
        stalled_at = self.playout + self._options.stall_s
        if self.machine.unflushed and self.clock() >= stalled_at:
            await self._flush(connection, None)
            return
        with anyio.move_on_after(self._options.send_timeout_s) as scope:
            await connection.keepalive()
        self._check_sent(scope)

    async def _flush(self, connection: Connection, mark: FlushMark | None) -> None:
        frames, token = self.machine.flush()
        if mark is not None:
            self._flushing[token] = mark
        await self._send(connection, frames)
        with anyio.move_on_after(self._options.send_timeout_s) as scope:
            await connection.request_flush(token)
        self._check_sent(scope)

    async def _end(self, connection: Connection) -> None:
        self._ending = True
        mark = FlushMark()
        with anyio.move_on_after(self._options.end_timeout_s):
            await self._flush(connection, mark)
            await mark.done.wait()
        if not mark.confirmed:
            raise ConnectionLost("the last words did not come in time")

    async def _send(self, connection: Connection, frames: Iterable[Samples]) -> None:
        for frame in frames:
            with anyio.move_on_after(self._options.send_timeout_s) as scope:
                await connection.send(frame)
            self._check_sent(scope)
            self.machine.sent()

    def _check_sent(self, scope: anyio.CancelScope) -> None:
        if scope.cancelled_caught:
            raise ConnectionLost(
                f"the recogniser took nothing for {self._options.send_timeout_s:g} s"
            )
        self._last_sent = self.clock()

    async def _publish(self) -> None:
        # Taken and queued without an await between: two tasks publish, and the
        # order of events must stay; a cancelled wait loses none.
        for event in self.machine.events():
            self.outbox.put(event)
        await self.outbox.wait_for_room()

    def _release_flushes(self) -> None:
        for mark in self._flushing.values():
            mark.release(confirmed=False)
        self._flushing.clear()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a group that says most: one of ours, else the first."""
    leaves: list[BaseException] = []
    for exc in group.exceptions:
        leaves.append(_first(exc) if isinstance(exc, BaseExceptionGroup) else exc)
    ours = [exc for exc in leaves if isinstance(exc, KyutaiStreamError)]
    return (ours or leaves)[0]
