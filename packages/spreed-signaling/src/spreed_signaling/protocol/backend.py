# SPDX-License-Identifier: MIT
"""Messages between the signaling server and Nextcloud, as values.

Used by stand-ins on both sides and by the room API client.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Backend
    requests" and "Rooms".
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from ._codec import Model, json_field
from .messages import Message, Unknown, decode_frame
from .server_events import UserEntry

__all__ = [
    "BackendAuth",
    "BackendError",
    "BackendPing",
    "BackendRoom",
    "BackendSession",
    "PingEntry",
    "RoomApiDelete",
    "RoomApiDisinvite",
    "RoomApiInCall",
    "RoomApiMessage",
    "RoomApiParticipants",
    "RoomApiSwitchTo",
    "parse_backend",
    "parse_room_api",
]


@frozen(kw_only=True)
class BackendAuth(Message):
    """Validates a hello: `params` in the request, the user in the answer."""

    type: ClassVar[str] = "auth"
    version: str | None = json_field("str", "version")
    params: dict[str, Any] | None = json_field("object", "params", secret=True)
    user_id: str | None = json_field("str", "userid")
    user: dict[str, Any] | None = json_field("object", "user", secret=True)


@frozen(kw_only=True)
class BackendRoom(Message):
    """Joins or leaves (`action`) a room, and the answer with its properties."""

    type: ClassVar[str] = "room"
    version: str | None = json_field("str", "version")
    room_token: str | None = json_field("str", "roomid")
    user_id: str | None = json_field("str", "userid")
    nc_session_id: str | None = json_field("str", "sessionid")
    action: str | None = json_field("str", "action")
    actor_id: str | None = json_field("str", "actorid")
    actor_type: str | None = json_field("str", "actortype")
    in_call: int | None = json_field("int", "incall")
    properties: dict[str, Any] | None = json_field("object", "properties")
    permissions: tuple[str, ...] | None = json_field("strings", "permissions")
    session: dict[str, Any] | None = json_field("object", "session")


@frozen(kw_only=True)
class PingEntry(Model):
    """One living session of a ping."""

    user_id: str | None = json_field("str", "userid")
    nc_session_id: str | None = json_field("str", "sessionid")


@frozen(kw_only=True)
class BackendPing(Message):
    """Tells Nextcloud which sessions are alive."""

    type: ClassVar[str] = "ping"
    version: str | None = json_field("str", "version")
    room_token: str | None = json_field("str", "roomid")
    entries: tuple[PingEntry, ...] | None = json_field(PingEntry, "entries", many=True)


@frozen(kw_only=True)
class BackendSession(Message):
    """Adds or removes a virtual session."""

    type: ClassVar[str] = "session"
    version: str | None = json_field("str", "version")
    room_token: str | None = json_field("str", "roomid")
    action: str | None = json_field("str", "action")
    session_id: str | None = json_field("str", "sessionid")
    user_id: str | None = json_field("str", "userid")
    user: dict[str, Any] | None = json_field("object", "user", secret=True)


@frozen(kw_only=True)
class BackendError(Message):
    """Nextcloud refuses a request."""

    type: ClassVar[str] = "error"
    code: str | None = json_field("str", "code")
    message: str | None = json_field("str", "message")


@frozen(kw_only=True)
class RoomApiInCall(Message):
    """Nextcloud reports call flags: of some participants, or of `all`."""

    type: ClassVar[str] = "incall"
    in_call: Any = json_field("any", "incall")
    all: bool | None = json_field("bool", "all")
    changed: tuple[UserEntry, ...] | None = json_field(UserEntry, "changed", many=True)
    users: tuple[UserEntry, ...] | None = json_field(UserEntry, "users", many=True)


@frozen(kw_only=True)
class RoomApiParticipants(Message):
    """Nextcloud reports changed permissions or participants."""

    type: ClassVar[str] = "participants"
    changed: tuple[UserEntry, ...] | None = json_field(UserEntry, "changed", many=True)
    users: tuple[UserEntry, ...] | None = json_field(UserEntry, "users", many=True)


@frozen(kw_only=True)
class RoomApiMessage(Message):
    """Nextcloud sends data to everybody in the room."""

    type: ClassVar[str] = "message"
    data: Any = json_field("any", "data", secret=True)


@frozen(kw_only=True)
class RoomApiDisinvite(Message):
    """Nextcloud removes users or sessions from the room."""

    type: ClassVar[str] = "disinvite"
    user_ids: tuple[str, ...] | None = json_field("strings", "userids")
    nc_session_ids: tuple[str, ...] | None = json_field("strings", "sessionids")
    all_user_ids: tuple[str, ...] | None = json_field("strings", "alluserids")


@frozen(kw_only=True)
class RoomApiDelete(Message):
    """Nextcloud deleted the room."""

    type: ClassVar[str] = "delete"
    user_ids: tuple[str, ...] | None = json_field("strings", "userids")


@frozen(kw_only=True)
class RoomApiSwitchTo(Message):
    """Nextcloud moves sessions to another room."""

    type: ClassVar[str] = "switchto"
    room_token: str | None = json_field("str", "roomid")
    sessions: Any = json_field("any", "sessions")
    """A list of Nextcloud session ids, or a map of them to details."""


_BACKEND: dict[str, type[Message]] = {
    kind.type: kind
    for kind in (BackendAuth, BackendError, BackendPing, BackendRoom, BackendSession)
}
_ROOM_API: dict[str, type[Message]] = {
    kind.type: kind
    for kind in (
        RoomApiDelete,
        RoomApiDisinvite,
        RoomApiInCall,
        RoomApiMessage,
        RoomApiParticipants,
        RoomApiSwitchTo,
    )
}


def parse_backend(text: str | bytes) -> Message:
    """Read a request of the signaling server to Nextcloud, or the answer.

    Raises:
        ProtocolViolation: If it is not a JSON object with a `type`.
    """
    data = decode_frame(text)
    kind = _BACKEND.get(data["type"])
    return Unknown(raw=data) if kind is None else kind.from_envelope(data)


def parse_room_api(text: str | bytes) -> Message:
    """Read a request of Nextcloud to the signaling server's room API.

    Raises:
        ProtocolViolation: If it is not a JSON object with a `type`.
    """
    data = decode_frame(text)
    kind = _ROOM_API.get(data["type"])
    return Unknown(raw=data) if kind is None else kind.from_envelope(data)
