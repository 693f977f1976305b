# SPDX-License-Identifier: MIT
"""Carry one stream between a client's ASGI websocket and the model server.

Three tasks: one reads the client, one reads the model server, one looks at the clock
(`timekeeper.py`).
Whoever has something to hand on does it, unless another task is at it already; so a
frame and a word cross without changing tasks.

Where both sides allow it (`direct`, `PromptConnection`), frames and words do not even
wake a task: they are handed on where the event loop brings them. What would have to
wait, is rare or goes wrong is left to the tasks.

**Back-pressure.** A client is not read while too much of its audio waits (see
`StreamRules.queue_frames`): its own websocket then fills up, nothing is dropped. A
client that does not read stops the reading of the model server, and is left after
`StreamRules.send_timeout_s`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import anyio

from kyutai_stream import Connection, ConnectRequest, KyutaiStreamError
from kyutai_stream.backend import ConnectionEvent, PromptConnection

from .._tasks import bare
from ..upstream import Upstream, UpstreamState
from .direct import Direct
from .machine import Ending, StreamMachine
from .pusher import Pusher
from .rules import StreamRules
from .teller import CLOSE_S, Message, Send, Teller
from .timekeeper import TimeKeeper

__all__ = ["Message", "Receive", "Send", "StreamShell"]

Receive = Callable[[], Awaitable[Message]]


class StreamShell:
    """Runs one accepted websocket to its end.

    Args:
        receive: ASGI `receive` of the websocket, after its connect.
        send: ASGI `send`, after the accept.
        machine: The stream's state.
        upstream: The model server.
        rules: Bounds.
        direct: Where the server offers it: messages without a task.
        first_word: Called when the stream's first word came.
    """

    def __init__(
        self,
        *,
        receive: Receive,
        send: Send,
        machine: StreamMachine,
        upstream: Upstream,
        rules: StreamRules,
        direct: Direct | None = None,
        first_word: Callable[[], None] | None = None,
    ) -> None:
        self._direct = direct
        self._left = anyio.Event()
        self._first_word = first_word
        self._receive = receive
        self._machine = machine
        self._upstream = upstream
        self._rules = rules
        self._tasks: anyio.CancelScope | None = None
        self._room: anyio.Event | None = None
        # What anyio.current_time asks, without looking for the loop each time: the
        # clock is read several times for each frame.
        self._clock = clock = asyncio.get_running_loop().time
        self._pusher = Pusher(machine, clock)
        self._teller = Teller(
            send=send, machine=machine, direct=direct, clock=clock, stop=self._stop
        )
        self._time = TimeKeeper(
            machine=machine,
            rules=rules,
            clock=clock,
            pusher=self._pusher,
            teller=self._teller,
            push=self._push,
            tell=self._tell,
            ended=self._suspect,
            stop=self._stop,
        )
        self.failure: BaseException | None = None
        """What went wrong inside of the gateway or upstream, for its log."""

    @property
    def machine(self) -> StreamMachine:
        """The stream's state."""
        return self._machine

    async def run(self) -> Ending:
        """Serve until one side ends the stream, and close the websocket.

        Cancelled: the upstream connection is left at once, nothing more is sent.

        Returns:
            How it ended.
        """
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks.cancel_scope
                tasks.start_soon(self._hear_client)
                tasks.start_soon(self._hear_model)
                tasks.start_soon(self._do_what_is_left)
                await self._time.run()
        except* Exception as failures:
            # One reason is enough, and a group would hide it.
            self.failure = bare(failures)
            self._machine.fail("internal", "the gateway failed")
        if not self._teller.closed:
            with anyio.move_on_after(CLOSE_S):
                await self._tell()
        self.failure = self.failure or self._pusher.failure
        return self._machine.ending or Ending(close=None, reason="gone")

    def drain(self, deadline_s: float) -> None:
        """Let the stream end within so many seconds."""
        self._machine.drain(deadline_s, self._clock())
        self._time.ring()

    # -- the client ----------------------------------------------------------------

    async def _hear_client(self) -> None:
        machine = self._machine
        if self._direct is not None:
            self._direct.hand_on(self._client_says)
        while True:
            message = await self._receive()
            kind = message.get("type")
            if kind == "websocket.disconnect":
                machine.gone()
                self._stop()
                return
            if kind != "websocket.receive":
                continue
            now = self._clock()
            data, text = message.get("bytes"), message.get("text")
            if data is not None:
                machine.binary(data if type(data) is bytes else bytes(data), now)
            elif text is not None:
                machine.text(text, now)
            if machine.has_work:
                await self._push()
            if machine.outbox or machine.ending is not None:
                await self._tell()
            if machine.full:
                await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        machine = self._machine
        while machine.full and machine.ending is None:
            self._room = anyio.Event()
            await self._room.wait()
        self._room = None

    def _stop(self) -> None:
        if self._tasks is not None:
            self._tasks.cancel()

    async def _tell(self) -> None:
        await self._teller.tell()
        self._look_around()

    async def _push(self) -> None:
        await self._pusher.push()
        self._look_around()

    def _look_around(self) -> None:
        """See whether what happened is of interest to somebody who waits."""
        machine = self._machine
        if self._room is not None and not machine.full:
            self._room.set()
        if machine.timers.hurry:
            self._time.look()
        if self._first_word is not None and machine.narrator.words:
            self._first_word()
            self._first_word = None

    # -- the model -----------------------------------------------------------------

    async def _hear_model(self) -> None:
        machine = self._machine
        try:
            if await self._model_is_ready():
                await self._converse()
            failure = None
        except KyutaiStreamError as exc:
            self.failure = failure = exc
        if machine.ending is None:
            machine.upstream_failed(failure)
        self._suspect()
        await self._tell()

    async def _model_is_ready(self) -> bool:
        upstream = self._upstream
        if upstream.state is UpstreamState.READY:
            return True
        if upstream.state is not UpstreamState.FAILED:
            with anyio.move_on_after(self._rules.ready_wait_s):
                if await self._waited():
                    return True
        if upstream.state is UpstreamState.WEDGED:
            what = "the model server does not work"
            self._machine.fail("upstream_wedged", what)
        else:
            self._machine.fail("upstream_lost", "the model server is not there")
        return False

    async def _waited(self) -> bool:
        try:
            await self._upstream.wait_ready()
        except Exception as exc:
            # It will never be: its state says so.
            self.failure = exc
            return False
        return True

    async def _converse(self) -> None:
        async with self._upstream.backend.connect(ConnectRequest()) as connection:
            prompt: PromptConnection | None = None
            if self._direct is not None and isinstance(connection, PromptConnection):
                prompt = connection
                prompt.hand_on(self._model_says)
            self._pusher.use(connection, prompt)
            try:
                await self._hear_connection(connection)
            finally:
                self._pusher.use(None)

    async def _hear_connection(self, connection: Connection) -> None:
        machine = self._machine
        clock = self._clock
        async for event in connection:
            machine.event(event, clock())
            if machine.outbox or machine.ending is not None:
                await self._tell()
                await self._teller.until_told()
            if machine.has_work:
                await self._push()
            self._look_around()

    # -- at once ---------------------------------------------------------------------

    def _client_says(self, data: bytes) -> bool:
        """Take a message where the event loop brings it, instead of a task."""
        machine = self._machine
        try:
            now = self._clock()
            machine.binary(data, now)
            self._do_now(now)
        except Exception as exc:
            self._broken(exc)
        return machine.ending is None and not machine.full

    def _model_says(self, events: Sequence[ConnectionEvent]) -> bool:
        """Take events where the event loop brings them, instead of a task."""
        machine = self._machine
        now = self._clock()
        machine.events(events, now)
        self._do_now(now)
        # With more to tell than the client takes, the model server is not read.
        return machine.ending is None and not machine.outbox

    def _do_now(self, now: float) -> None:
        """Hand on what does not wait, and leave the rest to a task."""
        machine = self._machine
        pushed = not machine.has_work or self._pusher.push_now(now)
        told = not (machine.outbox or machine.ending) or self._teller.tell_now()
        self._look_around()
        if not (pushed and told):
            self._left.set()

    def _broken(self, exc: Exception) -> None:
        self.failure = exc
        self._machine.fail("internal", "the gateway failed")
        self._left.set()

    async def _do_what_is_left(self) -> None:
        """Do what could not be done at once."""
        while True:
            await self._left.wait()
            self._left = anyio.Event()
            await self._push()
            if self._machine.outbox or self._machine.ending is not None:
                await self._tell()

    def _suspect(self) -> None:
        ending = self._machine.ending
        if ending is not None and ending.reason in ("upstream_lost", "upstream_wedged"):
            self._upstream.suspect()
