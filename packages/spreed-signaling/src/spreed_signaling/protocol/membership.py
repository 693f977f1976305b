# SPDX-License-Identifier: MIT
"""Being in a room: joining, joining again, and being put out."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from ..errors import RequestTimeout, RoomRefused, SignalingError
from ..types import InCallFlags
from .backoff import ReconnectDelays
from .events import RoomJoined, RoomLeft, SessionEvent
from .messages import ErrorMessage, InCallBody, InternalMessage, Message, RoomMessage
from .outbox import Outbox

__all__ = ["Membership"]


class Membership:
    """The room we want to be in, and how far we are.

    Args:
        room_token: Talk's conversation token.
        nc_session_id: Our Nextcloud session id; None for internal clients.
        in_call: Call flags of an internal client; None for others, whose flags
            Nextcloud reports.
        timeout_s: How long the server may take to answer, seconds.
        jitter: Source of randomness for the delays between attempts.
    """

    def __init__(
        self,
        room_token: str,
        nc_session_id: str | None,
        in_call: InCallFlags | None,
        timeout_s: float,
        jitter: random.Random | None = None,
    ) -> None:
        self.room_token = room_token
        self.joined = False
        self.error: SignalingError | None = None
        """Why we are not in the room, while that lasts."""
        self._nc_session_id = nc_session_id
        self._in_call = in_call
        self._timeout_s = timeout_s
        self._request_id: str | None = None
        self._asked: deque[str] = deque(maxlen=16)
        self._deadline: float | None = None
        self._retry_at: float | None = None
        self._delays = ReconnectDelays(jitter)

    def request(self, outbox: Outbox, features: frozenset[str], now: float) -> None:
        """Post what joins the room.

        Source:
            "Internal clients": `incall` comes first, so that nobody sees us
            with wrong flags. Servers before 1.1 do not know it; they do not
            announce `switchto` either.
        """
        self.joined = False
        if self._in_call is not None and "switchto" in features:
            flags = InCallBody(in_call=int(self._in_call))
            outbox.post(InternalMessage(kind="incall", in_call=flags))
        join: Message = RoomMessage(
            room_token=self.room_token, nc_session_id=self._nc_session_id
        )
        self._request_id = outbox.post(join)
        self._asked.append(self._request_id)
        self._deadline = now + self._timeout_s
        self._retry_at = None

    def is_answered_by(self, request_id: str | None) -> bool:
        """Whether a message with this id answers a request of ours, even late."""
        return request_id in self._asked

    def accept(self, properties: Any) -> list[SessionEvent]:
        """The server let us in."""
        self.joined = True
        self.error = None
        self._request_id = self._deadline = self._retry_at = None
        self._delays.reset()
        known = properties if isinstance(properties, dict) else {}
        return [RoomJoined(room_token=self.room_token, properties=known)]

    def refuse(self, message: ErrorMessage, now: float) -> list[SessionEvent]:
        """The server refused; `RoomLeft` in the result means it was final."""
        code = message.code or "unknown"
        if code == "already_joined":
            if self.joined:
                # A late answer to the first of two requests let us in before.
                return []
            details = message.details if isinstance(message.details, dict) else {}
            room = details.get("room")
            return self.accept(room.get("properties") if isinstance(room, dict) else {})
        error = RoomRefused(code, message.message or "", message.details)
        if error.retryable:
            # The answer to a request we gave up changes no plan.
            if message.id == self._request_id:
                self._retry(error, now)
            return []
        return [RoomLeft(room_token=self.room_token, error=error)]

    def connection_lost(self) -> None:
        """Answers will not come any more; membership itself may survive."""
        self._asked.clear()
        self._request_id = self._deadline = self._retry_at = None

    def retry_now(self, now: float) -> None:
        """Do not wait for the next attempt."""
        if self._retry_at is not None:
            self._retry_at = now

    def deadline(self) -> float | None:
        """Return when `tick` must be called next; None if never."""
        return self._deadline if self._deadline is not None else self._retry_at

    def tick(self, outbox: Outbox, features: frozenset[str], now: float) -> None:
        """Give up waiting for an answer, or ask again."""
        if self._deadline is not None and self._deadline <= now:
            self._retry(RequestTimeout("joining the room", self._timeout_s), now)
        elif self._retry_at is not None and self._retry_at <= now:
            self.request(outbox, features, now)

    def _retry(self, error: SignalingError, now: float) -> None:
        self.error = error
        self._request_id = self._deadline = None
        self._retry_at = now + self._delays.next()
