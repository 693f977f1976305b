# SPDX-License-Identifier: MIT
"""Request ids, frames to send, and messages that wait for a connection."""

from __future__ import annotations

from collections import deque

import attrs
from attrs import frozen

from .messages import Message, serialise

__all__ = ["Outbox"]


@frozen
class _Waiting:
    message: Message
    expires_at: float


class Outbox:
    """Outgoing messages of one session.

    Args:
        limit: Messages kept while disconnected. When full, the oldest is given
            up and returned to be reported: nothing disappears silently.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next_id = 0
        self._frames: list[str] = []
        self._waiting: deque[_Waiting] = deque()

    def number(self, message: Message) -> Message:
        """Return the message with an id of its own."""
        if message.id:
            return message
        self._next_id += 1
        return attrs.evolve(message, id=str(self._next_id))

    def post(self, message: Message) -> str:
        """Send at the next opportunity; returns the request id."""
        numbered = self.number(message)
        self._frames.append(serialise(numbered))
        return numbered.id or ""

    def keep(self, message: Message, expires_at: float) -> list[Message]:
        """Keep a numbered message for later; returns what had to be given up."""
        self._waiting.append(_Waiting(message, expires_at))
        if len(self._waiting) > self._limit:
            return [self._waiting.popleft().message]
        return []

    def post_kept(self) -> None:
        """Send everything that waited."""
        while self._waiting:
            self.post(self._waiting.popleft().message)

    def expire(self, now: float) -> list[Message]:
        """Return the messages that waited too long, forgetting them."""
        late = [one.message for one in self._waiting if one.expires_at <= now]
        self._waiting = deque(one for one in self._waiting if one.expires_at > now)
        return late

    def drop_frames(self) -> None:
        """The socket is gone, and what was not sent with it."""
        self._frames.clear()

    def drop_all(self) -> list[Message]:
        """The session is over; returns the messages that still waited."""
        late = [one.message for one in self._waiting]
        self._waiting.clear()
        return late

    def collect(self) -> list[str]:
        """Return the frames to send, once."""
        frames, self._frames = self._frames, []
        return frames

    def deadline(self) -> float | None:
        """Return when the first waiting message expires; None if none waits."""
        return min((one.expires_at for one in self._waiting), default=None)
