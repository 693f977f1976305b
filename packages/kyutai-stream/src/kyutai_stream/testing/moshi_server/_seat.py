# SPDX-License-Identifier: MIT
"""A connection's place at the model, in the event loop's time."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from ._channel import Channel
from ._engine import Engine
from ._wire import Inbound
from .options import ConnectionPlan

__all__ = ["Seat"]


class Seat:
    """A channel of the engine, if the connection got one.

    Args:
        engine: The server's engine; another one after a restart.
        changed: Called when the engine may have something to do.
    """

    def __init__(self, engine: Engine, changed: Callable[[], None]) -> None:
        self._engine = engine
        self._changed = changed
        self._channel: Channel | None = None

    @property
    def taken(self) -> bool:
        """Whether there is a channel, or was one until it was freed."""
        return self._channel is not None

    @property
    def channel(self) -> Channel:
        """The channel; only where there is one."""
        if self._channel is None:
            raise AssertionError("only a served connection has a channel")
        return self._channel

    @property
    def has_output(self) -> bool:
        """Whether there is something to send, or nothing to come any more."""
        channel = self._channel
        return channel is not None and bool(channel.outbox or channel.freed)

    def take(self, number: int, plan: ConnectionPlan) -> bool:
        """Take a slot; returns whether one was free."""
        self._channel = self._engine.connect(number, plan, anyio.current_time())
        if self._channel is None:
            return False
        self._changed()
        return True

    def receive(self, message: Inbound) -> None:
        """Queue a client's message."""
        before = self._engine.deadline()
        self._engine.receive(self.channel, message, anyio.current_time())
        if self._engine.deadline() != before:
            self._changed()

    def end_input(self) -> None:
        """The client says no more; what is queued is still processed."""
        if self._channel is not None:
            self._engine.end_input(self._channel, anyio.current_time())
            self._changed()

    def break_output(self) -> None:
        """Nothing can be sent any more; the slot is given back."""
        if self._channel is not None:
            self._engine.break_output(self._channel, anyio.current_time())
            self._changed()

    def deafen(self) -> None:
        """Let the model hear no words until the next reset."""
        if self._channel is not None:
            self._channel.words.deaf = True
