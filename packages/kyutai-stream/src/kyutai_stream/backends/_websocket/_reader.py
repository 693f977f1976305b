# SPDX-License-Identifier: MIT
"""Read a websocket for the session: messages in, events out, time-outs on the way.

Nothing is queued here: a message is read from the socket when the session asks for
the next event, so a slow session holds up the server through `websockets` and TCP.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import anyio

from ...backend import ConnectionEvent, Ready
from ...errors import KyutaiStreamError
from ._dial import Ended, Socket

__all__ = ["EventReader", "Machine"]


class Machine(Protocol):
    """The pure half of a connection: messages and time in, events out."""

    @property
    def deadline(self) -> float:
        """When `tick` is due next; infinite for never."""

    def receive(self, message: bytes | str, now: float) -> None:
        """Take a message; raises errors of this library."""

    def tick(self, now: float) -> None:
        """Do what is due; raises errors of this library."""

    def ended(self, end: Ended, now: float) -> KyutaiStreamError:
        """Say what the end of the connection means."""

    def events(self) -> list[ConnectionEvent]:
        """Take what came up."""


class EventReader:
    """Iterates over a machine's events, for one task.

    Events that came up before a failure are delivered before it.

    Args:
        socket: Where messages come from.
        machine: What they mean.
        ready: The first event.
    """

    def __init__(self, socket: Socket, machine: Machine, ready: Ready) -> None:
        self._socket = socket
        self._machine = machine
        self._events: deque[ConnectionEvent] = deque([ready])
        self._failure: KyutaiStreamError | None = None
        self._waiting: anyio.CancelScope | None = None

    def wake(self) -> None:
        """Look at the machine's deadline again; it may have come nearer."""
        if self._waiting is not None:
            self._waiting.deadline = self._machine.deadline

    def __aiter__(self) -> EventReader:
        return self

    async def __anext__(self) -> ConnectionEvent:
        self._collect()
        while not self._events:
            if self._failure is not None:
                raise self._failure
            try:
                await self._advance()
            except KyutaiStreamError as exc:
                self._failure = exc
            self._collect()
        return self._events.popleft()

    async def _advance(self) -> None:
        message = None
        with anyio.CancelScope(deadline=self._machine.deadline) as self._waiting:
            try:
                message = await self._socket.receive()
            except Ended as end:
                raise self._machine.ended(end, anyio.current_time()) from end
            finally:
                self._waiting = None
        now = anyio.current_time()
        if message is not None:
            self._machine.receive(message, now)
        if now >= self._machine.deadline:
            self._machine.tick(now)

    def _collect(self) -> None:
        self._events.extend(self._machine.events())
