# SPDX-License-Identifier: MIT
"""A bounded stream of events for one consumer."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .errors import EventsLagged
from .protocol.events import SessionEvent

__all__ = ["EventStream"]


class EventStream:
    """Events from the moment of subscribing, for one consumer.

    Iteration ends when the session is over. When full, the stream is closed:
    the consumer gets what was queued, then `EventsLagged`.

    Args:
        limit: Events that may wait.
        forget: Called once when the stream is closed.
    """

    def __init__(self, limit: int, forget: Callable[[EventStream], None]) -> None:
        self._limit = limit
        self._forget = forget
        self._lagged = False
        self._ended = False
        self._sender: MemoryObjectSendStream[SessionEvent]
        self._receiver: MemoryObjectReceiveStream[SessionEvent]
        self._sender, self._receiver = anyio.create_memory_object_stream(limit)

    def put(self, event: SessionEvent) -> None:
        """Add an event; never blocks, does nothing once ended."""
        if self._ended:
            return
        try:
            self._sender.send_nowait(event)
        except anyio.WouldBlock:
            self._lagged = True
            self.end()

    def end(self) -> None:
        """No more events will come; what is queued can still be read."""
        if not self._ended:
            self._ended = True
            self._sender.close()
            self._forget(self)

    def close(self) -> None:
        """Stop listening."""
        self.end()
        self._receiver.close()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> SessionEvent:
        """Return the next event.

        Cancellation-safe: a cancelled call loses nothing.

        Raises:
            EventsLagged: If this consumer was too slow.
        """
        try:
            return await self._receiver.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if self._lagged:
                raise EventsLagged(self._limit) from None
            raise StopAsyncIteration from None
