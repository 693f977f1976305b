# SPDX-License-Identifier: MIT
"""From room to room: which one we are to be in, and who else is there."""

from __future__ import annotations

import random

from ..errors import SignalingError, UsageError
from ..types import InCallFlags
from ._handshake import Handshake
from ._inbound import interpret_event
from .events import RoomLeft, RoomUpdated, SessionEvent, UnhandledMessage
from .membership import Membership
from .messages import ErrorMessage, RoomMessage
from .outbox import Outbox
from .phases import SessionOptions
from .roster import Roster
from .server_events import Event

__all__ = ["Rooms"]


class Rooms:
    """The room we want to be in, if any, and the people in it.

    What the server has to hear is posted; what happened is returned.

    Args:
        handshake: Who we are in the current session.
        outbox: Takes what is posted.
        options: Times.
        internal: Whether we are an internal client.
        jitter: Source of randomness for the delays between attempts to join.
    """

    def __init__(
        self,
        handshake: Handshake,
        outbox: Outbox,
        options: SessionOptions,
        *,
        internal: bool,
        jitter: random.Random,
    ) -> None:
        self.roster = Roster()
        self.member: Membership | None = None
        """How far we are with the room; None if we want none."""
        self._handshake = handshake
        self._outbox = outbox
        self._options = options
        self._internal = internal
        self._jitter = jitter
        self._leave_unconfirmed = False
        self._refusal: SignalingError | None = None

    @property
    def error(self) -> SignalingError | None:
        """Why we are not in the room that we want, or wanted last."""
        return self._refusal if self.member is None else self.member.error

    # What we want.

    def join(
        self, room_token: str, nc_session_id: str | None, in_call: InCallFlags
    ) -> None:
        """Want to be in this room; `request` asks for it.

        Raises:
            UsageError: See `SignalingSession.join`.
        """
        if self.member is not None:
            raise UsageError("leave the current room before joining another")
        if self._internal and nc_session_id is not None:
            raise UsageError("internal clients join without a Nextcloud session id")
        flags = in_call if self._internal else None
        timeout_s = self._options.join_timeout_s
        self._refusal = None
        self.member = Membership(
            room_token, nc_session_id, flags, timeout_s, self._jitter
        )

    def request(self, now: float) -> None:
        """Post what joins the room that we want, if we want one."""
        if self.member is not None:
            self.member.request(self._outbox, self._handshake.features, now)

    def leave(self, *, ready: bool) -> list[SessionEvent]:
        """Want no room any more; `ready` if the server can hear of it now."""
        if self.member is None:
            return []
        self._leave_unconfirmed = True
        if ready:
            self._outbox.post(RoomMessage(room_token=""))
        return self._out(self.member)

    def retry_now(self, now: float) -> None:
        """Do not wait for the next attempt to join."""
        if self.member is not None:
            self.member.retry_now(now)

    # What became of the session.

    def connection_lost(self) -> None:
        """The socket is gone; the session may survive, and our place with it."""
        if self.member is not None:
            self.member.connection_lost()

    def session_started(self) -> list[SessionEvent]:
        """A new session is in no room and knows nobody; `request` follows."""
        self._leave_unconfirmed = False
        self._refusal = None
        return [*self.roster.clear(self._handshake.session_id)]

    def session_resumed(self, now: float) -> None:
        """Say again what the server may not have heard.

        Source:
            "Resuming sessions": the room is kept. A join that was heard after all
            is answered with `already_joined`, which is success then.
        """
        self._refusal = None
        if self.member is not None and self.member.joined:
            return
        if self._leave_unconfirmed:
            self._outbox.post(RoomMessage(room_token=""))
        self.request(now)

    def session_ended(self, error: SignalingError | None) -> list[SessionEvent]:
        """There is no session any more to be in a room with."""
        self._refusal = None
        return [] if self.member is None else self._out(self.member, error)

    # What the server says.

    def receive(self, message: RoomMessage) -> list[SessionEvent]:
        """The server says where we are, or what the room is like."""
        member = self.member
        if message.room_token == "":
            self._leave_unconfirmed = False
            if member is None or not member.joined:
                return []
            # Pushed: we were put out, or the room was deleted.
            return self._out(member)
        if member is None or message.room_token != member.room_token:
            return []
        if member.is_answered_by(message.id) and not member.joined:
            self._leave_unconfirmed = False
            # The room's members are listed after this answer; whoever was heard
            # of before is in a room that we have left.
            gone = self.roster.clear(self._handshake.session_id)
            return [*gone, *member.accept(message.properties)]
        properties = message.properties or {}
        return [RoomUpdated(room_token=member.room_token, properties=properties)]

    def receive_error(
        self, message: ErrorMessage, now: float
    ) -> list[SessionEvent] | None:
        """An error came; None if it is about something else than joining."""
        member = self.member
        if member is None or not member.is_answered_by(message.id):
            return None
        events: list[SessionEvent] = []
        for event in member.refuse(message, now):
            if isinstance(event, RoomLeft):
                self._refusal = event.error
                events += self._out(member, event.error)
            else:
                events.append(event)
        return events

    def receive_event(self, message: Event) -> list[SessionEvent] | None:
        """Something happened in the room; None if it ends the session."""
        if self.member is None:
            # Late news of a room that we have left would bring back ghosts.
            return [UnhandledMessage(message=message)]
        return interpret_event(message, self.roster, self.member.room_token)

    # Time; only while the session is open.

    def deadline(self) -> float | None:
        """Return when `tick` must be called next; None if never."""
        return None if self.member is None else self.member.deadline()

    def tick(self, now: float) -> None:
        """Give up waiting for an answer, or ask again."""
        if self.member is not None:
            self.member.tick(self._outbox, self._handshake.features, now)

    def _out(
        self, member: Membership, error: SignalingError | None = None
    ) -> list[SessionEvent]:
        self.member = None
        left = RoomLeft(room_token=member.room_token, error=error)
        return [*self.roster.clear(self._handshake.session_id), left]
