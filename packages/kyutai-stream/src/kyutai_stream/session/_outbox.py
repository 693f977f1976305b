# SPDX-License-Identifier: MIT
"""The queue of events to the reader: partials merge, nothing else is dropped."""

from __future__ import annotations

from collections import deque

import anyio

from ..events import Partial, SessionEvent


class Outbox:
    """Holds about `limit` events; when full, writers wait for the reader.

    An undelivered partial is replaced by a later one of the same segment, in its
    place, so a slow reader finds the newest text and every final.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[SessionEvent] = deque()
        self._closed = False
        self._failure: Exception | None = None
        self._changed = anyio.Event()

    def put(self, event: SessionEvent) -> None:
        """Add an event, room or not; `wait_for_room` before the next ones."""
        if isinstance(event, Partial) and self._merge(event):
            return
        self._events.append(event)
        self._notify()

    @property
    def is_full(self) -> bool:
        """Whether the reader is so far behind that writers wait."""
        return len(self._events) >= self._limit

    async def wait_for_room(self) -> None:
        """Wait until fewer than `limit` events are queued."""
        while self.is_full:
            await self._changed.wait()

    def close(self, failure: Exception | None = None) -> None:
        """Let iteration end after what is queued, by raising `failure` if given."""
        self._closed = True
        self._failure = failure
        self._notify()

    async def get(self) -> SessionEvent | None:
        """Take the next event; None at the end. Cancelling loses nothing.

        Raises:
            Exception: The failure given to `close`, once everything was taken.
        """
        while not self._events:
            if self._closed:
                if self._failure is not None:
                    raise self._failure
                return None
            await self._changed.wait()
        event = self._events.popleft()
        self._notify()
        return event

    def _merge(self, event: Partial) -> bool:
        for place in range(len(self._events) - 1, -1, -1):
            queued = self._events[place]
            if isinstance(queued, Partial) and queued.segment_id == event.segment_id:
                self._events[place] = event
                return True
        return False

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
