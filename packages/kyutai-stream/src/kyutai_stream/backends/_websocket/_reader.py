# SPDX-License-Identifier: MIT
"""Read a websocket for the session: messages in, events out, time-outs on the way.

Nothing is queued here: a message is read from the socket when the session asks for
the next event, so a slow session holds up the server through `websockets` and TCP.

A listener may have events at once instead, while somebody waits in the iteration; it
says itself when it wants no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

import anyio

from ...backend import ConnectionEvent, Listener, Ready
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
        self._failure: Exception | None = None
        self._waiting: anyio.CancelScope | None = None
        self._listener: Listener | None = None
        # What anyio.current_time asks, for each message.
        self._clock = asyncio.get_running_loop().time

    def hand_on(self, listener: Listener) -> None:
        """Give events to a listener while a task waits in the iteration."""
        self._listener = listener

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
            if self._listener is not None:
                # What was queued before is received first, without a wait.
                self._socket.hand_on(self._heard)
            try:
                message = await self._socket.receive()
            except Ended as end:
                raise self._machine.ended(end, self._clock()) from end
            finally:
                self._socket.hand_on(None)
                self._waiting = None
        now = self._clock()
        if message is not None:
            self._machine.receive(message, now)
        if now >= self._machine.deadline:
            self._machine.tick(now)

    def _heard(self, message: bytes) -> None:
        """Take a message past the waiting task."""
        machine, waiting = self._machine, self._waiting
        if waiting is None or self._listener is None:
            raise AssertionError("nobody is called without a task that waits")
        try:
            machine.receive(message, self._clock())
            if self._listener(machine.events()):
                if waiting.deadline != machine.deadline:
                    waiting.deadline = machine.deadline
                return
        except Exception as exc:
            # For the task: the event loop would only log it.
            self._failure = exc
            waiting.cancel()
        self._socket.hand_on(None)

    def _collect(self) -> None:
        self._events.extend(self._machine.events())
