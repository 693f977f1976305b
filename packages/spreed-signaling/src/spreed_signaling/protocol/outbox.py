# SPDX-License-Identifier: MIT
"""Request ids, frames to send, and messages that wait for a connection.

Two kinds of frames go through here. The protocol's own (hello, room, bye) make
sense on one socket only and vanish with it. The application's are never lost
silently: whatever is not handed to the shell is kept or reported.
"""

from __future__ import annotations

from collections import deque

import attrs
from attrs import frozen

from ..errors import UsageError
from .messages import Message, serialise

__all__ = ["MAX_FRAME_BYTES", "Outbox"]

MAX_FRAME_BYTES = 64 * 1024
"""The server closes the connection (1009) over a larger message.

Source:
    Measured with HPB 2.0.2.
"""


@frozen
class _Frame:
    text: str
    message_id: str
    expires_at: float = 0.0
    application: bool = True
    """Whether it comes from the application, not from the protocol itself."""


class Outbox:
    """Outgoing messages of one session.

    `submit`, `keep` and `drop_frames` return the ids of messages that had to be
    given up because too many wait: always the oldest.

    Args:
        keep_limit: Messages kept while disconnected.
        send_limit: Messages the shell has not collected yet.
    """

    def __init__(self, keep_limit: int = 256, send_limit: int = 4096) -> None:
        self._keep_limit = keep_limit
        self._send_limit = send_limit
        self._next_id = 0
        self._frames: deque[_Frame] = deque()
        self._waiting: deque[_Frame] = deque()

    def number(self, message: Message) -> Message:
        """Return the message with an id of its own."""
        if message.id:
            return message
        self._next_id += 1
        return attrs.evolve(message, id=str(self._next_id))

    def post(self, message: Message) -> str:
        """Send a message of the protocol itself; returns the request id."""
        numbered = self.number(message)
        request_id = numbered.id or ""
        self._frames.append(_Frame(serialise(numbered), request_id, application=False))
        return request_id

    def submit(self, message: Message, expires_at: float) -> tuple[str, list[str]]:
        """Send an application's message; returns its id and those given up.

        Raises:
            UsageError: If it is no JSON or too large.
        """
        frame = self._frame(message, expires_at)
        self._frames.append(frame)
        if len(self._frames) <= self._send_limit:
            return frame.message_id, []
        oldest = next(one for one in self._frames if one.application)
        self._frames.remove(oldest)
        return frame.message_id, [oldest.message_id]

    def keep(self, message: Message, expires_at: float) -> tuple[str, list[str]]:
        """Keep an application's message until there is a session.

        Raises:
            UsageError: If it is no JSON or too large.
        """
        frame = self._frame(message, expires_at)
        self._waiting.append(frame)
        return frame.message_id, self._trim()

    def post_kept(self) -> None:
        """Send everything that waited."""
        self._frames += self._waiting
        self._waiting.clear()

    def expire(self, now: float) -> list[str]:
        """Return the ids of messages that waited too long, forgetting them."""
        late = [one.message_id for one in self._waiting if one.expires_at <= now]
        self._waiting = deque(one for one in self._waiting if one.expires_at > now)
        return late

    def drop_frames(self) -> list[str]:
        """The socket is gone: keep what an application still wants sent."""
        unsent = [one for one in self._frames if one.application]
        self._frames.clear()
        self._waiting.extendleft(reversed(unsent))
        return self._trim()

    def drop_all(self) -> list[str]:
        """The session is over; returns the ids of messages that still waited."""
        late = [one.message_id for one in self._waiting]
        self._waiting.clear()
        return late

    def collect(self, limit: int | None = None) -> list[str]:
        """Return the frames to send, once; the oldest if only some are wanted."""
        count = len(self._frames)
        wanted = count if limit is None else min(limit, count)
        return [self._frames.popleft().text for _ in range(wanted)]

    def deadline(self) -> float | None:
        """Return when the first waiting message expires; None if none waits."""
        return min((one.expires_at for one in self._waiting), default=None)

    def _frame(self, message: Message, expires_at: float) -> _Frame:
        numbered = self.number(message)
        text = serialise(numbered)
        # ASCII, so characters are bytes.
        if len(text) > MAX_FRAME_BYTES:
            raise UsageError(f"message of {len(text)} bytes is too large to be sent")
        return _Frame(text, numbered.id or "", expires_at)

    def _trim(self) -> list[str]:
        given_up = []
        while len(self._waiting) > self._keep_limit:
            given_up.append(self._waiting.popleft().message_id)
        return given_up
