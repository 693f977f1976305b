# SPDX-License-Identifier: MIT
"""The bounded queue of admitted audio, flush marks and the end mark."""

from __future__ import annotations

from collections import deque

import anyio
from attrs import define, field

from ._machine import Chunk


@define(eq=False)
class FlushMark:
    """Stands in the queue where the caller asked for a flush."""

    done: anyio.Event = field(factory=anyio.Event)
    confirmed: bool = False

    def release(self, *, confirmed: bool) -> None:
        """Wake the caller that waits for it."""
        self.confirmed = confirmed
        self.done.set()


@define(eq=False)
class EndMark:
    """Stands in the queue behind the last audio."""


Item = Chunk | FlushMark | EndMark


class Inbox:
    """First in, first out; full when it holds `limit_s` seconds of audio.

    Marks take no room. One task takes out; any task may put in. When full,
    `wait_for_room` waits and the caller of `has_room` refuses the audio.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._items: deque[Item] = deque()
        self._held_s = 0.0
        self._closed = False
        self._changed = anyio.Event()

    @property
    def held_s(self) -> float:
        """Seconds of audio waiting."""
        return self._held_s

    def has_room(self, duration_s: float) -> bool:
        """Whether so much audio fits; anything fits into an empty queue."""
        return not self._items or self._held_s + duration_s <= self._limit_s

    async def wait_for_room(self, duration_s: float) -> None:
        """Wait until so much audio fits or the queue is closed."""
        while not self._closed and not self.has_room(duration_s):
            await self._changed.wait()

    def put(self, item: Item) -> None:
        """Put an item in, room or not: the caller has asked for room."""
        self._items.append(item)
        if isinstance(item, Chunk):
            self._held_s += item.duration_s
        self._notify()

    async def get(self) -> Item:
        """Take the next item; waits for one. Cancelling loses nothing."""
        while not self._items:
            await self._changed.wait()
        item = self._items.popleft()
        if isinstance(item, Chunk):
            self._held_s = max(0.0, self._held_s - item.duration_s)
        self._notify()
        return item

    def close(self) -> list[Chunk]:
        """Let nobody wait any more; releases flush marks, returns unused audio."""
        self._closed = True
        left = []
        for item in self._items:
            match item:
                case Chunk():
                    left.append(item)
                case FlushMark():
                    item.release(confirmed=False)
        self._items.clear()
        self._held_s = 0.0
        self._notify()
        return left

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
