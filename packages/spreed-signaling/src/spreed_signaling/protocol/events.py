# SPDX-License-Identifier: MIT
"""What an application sees of a session: past-tense facts, frozen."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from ..errors import RequestFailed, SignalingError
from ..types import Participant
from .messages import Message

__all__ = [
    "CallEnded",
    "ControlReceived",
    "DataReceived",
    "Disconnected",
    "ParticipantChanged",
    "ParticipantJoined",
    "ParticipantLeft",
    "RequestErrored",
    "RoomJoined",
    "RoomLeft",
    "RoomUpdated",
    "SessionEvent",
    "SessionFinished",
    "SessionResumed",
    "SessionStarted",
    "UnhandledMessage",
]


@frozen(kw_only=True)
class SessionStarted:
    """A new session was opened; whatever belonged to an earlier one is gone."""

    session_id: str
    server_version: str
    features: frozenset[str]


@frozen(kw_only=True)
class SessionResumed:
    """The session goes on after a lost connection; room and media are untouched."""

    session_id: str


@frozen(kw_only=True)
class Disconnected:
    """There is no connection; the next attempt is planned."""

    error: SignalingError
    retry_in_s: float
    """Seconds until the next attempt."""


@frozen(kw_only=True)
class SessionFinished:
    """The session is over and there will be no further attempt."""

    error: SignalingError | None
    """Why, or None if we said goodbye ourselves."""


@frozen(kw_only=True)
class RoomJoined:
    """We are in the room."""

    room_token: str
    properties: dict[str, Any]


@frozen(kw_only=True)
class RoomUpdated:
    """The room's properties changed."""

    room_token: str
    properties: dict[str, Any]


@frozen(kw_only=True)
class RoomLeft:
    """We are out of the room: left, removed, refused, or the room was deleted."""

    room_token: str
    error: SignalingError | None = None


@frozen(kw_only=True)
class ParticipantJoined:
    """A session entered the room."""

    participant: Participant


@frozen(kw_only=True)
class ParticipantLeft:
    """A session left the room."""

    participant: Participant


@frozen(kw_only=True)
class ParticipantChanged:
    """Something about a session changed, most often its in-call flags."""

    before: Participant
    participant: Participant


@frozen(kw_only=True)
class CallEnded:
    """The call was ended for everybody."""

    room_token: str


@frozen(kw_only=True)
class DataReceived:
    """Another session sent data: media signaling or an application's own."""

    sender_session_id: str | None
    sender_user_id: str | None
    data: Any = field(repr=False)


@frozen(kw_only=True)
class ControlReceived:
    """A privileged command arrived, such as a moderator's mute."""

    sender_session_id: str | None
    data: Any = field(repr=False)


@frozen(kw_only=True)
class RequestErrored:
    """The server answered the request `request_id` with an error."""

    request_id: str
    error: RequestFailed


@frozen(kw_only=True)
class UnhandledMessage:
    """A message this library does not interpret; nothing of it is lost."""

    message: Message


SessionEvent = (
    SessionStarted
    | SessionResumed
    | Disconnected
    | SessionFinished
    | RoomJoined
    | RoomUpdated
    | RoomLeft
    | ParticipantJoined
    | ParticipantLeft
    | ParticipantChanged
    | CallEnded
    | DataReceived
    | ControlReceived
    | RequestErrored
    | UnhandledMessage
)
"""Everything `SignalingSession.events()` can return."""
