# SPDX-License-Identifier: MIT
"""`event` messages: rooms, room lists and participants.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Room
    events", "Room list events" and "Participants list events".
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from ._codec import Model, json_field
from .messages import Message

__all__ = [
    "Event",
    "FlagsBody",
    "RoomEventMessage",
    "RoomListEntry",
    "RoomMember",
    "SwitchTo",
    "UpdateBody",
    "UserEntry",
]


@frozen(kw_only=True)
class RoomMember(Model):
    """An entry of `join` and `change` events."""

    session_id: str | None = json_field("str", "sessionid")
    user_id: str | None = json_field("str", "userid")
    user: dict[str, Any] | None = json_field("object", "user", secret=True)
    """Public user data, usually with `displayname`."""
    features: tuple[str, ...] | None = json_field("strings", "features")
    nc_session_id: str | None = json_field("str", "roomsessionid")
    federated: bool | None = json_field("bool", "federated")


@frozen(kw_only=True)
class UserEntry(Model):
    """One participant of a participants update, as Talk sent it.

    `in_call` is whatever came (integer, bool or nothing): use
    `protocol.roster.in_call_flags` to read it.
    """

    session_id: str | None = json_field("str", "sessionId")
    nc_session_id: str | None = json_field("str", "nextcloudSessionId")
    user_id: str | None = json_field("str", "userId")
    in_call: Any = json_field("any", "inCall")
    display_name: str | None = json_field("str", "displayName", secret=True)
    internal: bool | None = json_field("bool", "internal")
    virtual: bool | None = json_field("bool", "virtual")
    actor_type: str | None = json_field("str", "actorType")
    actor_id: str | None = json_field("str", "actorId")
    participant_type: int | None = json_field("int", "participantType")
    permissions: int | None = json_field("int", "participantPermissions")
    last_ping: int | None = json_field("int", "lastPing")
    features: tuple[str, ...] | None = json_field("strings", "features")
    user: dict[str, Any] | None = json_field("object", "user", secret=True)


@frozen(kw_only=True)
class UpdateBody(Model):
    """Body of a participants update: a partial list, or a flag for everybody."""

    room_token: str | None = json_field("str", "roomid")
    users: tuple[UserEntry, ...] | None = json_field(UserEntry, "users", many=True)
    in_call: Any = json_field("any", "incall")
    all: bool | None = json_field("bool", "all")


@frozen(kw_only=True)
class FlagsBody(Model):
    """Speaking and mute flags of a virtual session."""

    room_token: str | None = json_field("str", "roomid")
    session_id: str | None = json_field("str", "sessionid")
    flags: int | None = json_field("int", "flags")


@frozen(kw_only=True)
class SwitchTo(Model):
    """The room to move to."""

    room_token: str | None = json_field("str", "roomid")
    details: Any = json_field("any", "details")


@frozen(kw_only=True)
class RoomEventMessage(Model):
    """Data Talk sends to everybody in a room, such as a chat refresh."""

    room_token: str | None = json_field("str", "roomid")
    data: Any = json_field("any", "data", secret=True)


@frozen(kw_only=True)
class RoomListEntry(Model):
    """A room that was added to, changed in, or removed from the user's list."""

    room_token: str | None = json_field("str", "roomid")
    properties: dict[str, Any] | None = json_field("object", "properties")
    reason: str | None = json_field("str", "reason")


@frozen(kw_only=True)
class Event(Message):
    """An event; `target` and `kind` say which of the other fields is set."""

    type: ClassVar[str] = "event"
    target: str | None = json_field("str", "target")
    """`room`, `roomlist` or `participants`."""
    kind: str | None = json_field("str", "type")
    join: tuple[RoomMember, ...] | None = json_field(RoomMember, "join", many=True)
    change: tuple[RoomMember, ...] | None = json_field(RoomMember, "change", many=True)
    leave: tuple[str, ...] | None = json_field("strings", "leave")
    switch_to: SwitchTo | None = json_field(SwitchTo, "switchto")
    message: RoomEventMessage | None = json_field(RoomEventMessage, "message")
    invite: RoomListEntry | None = json_field(RoomListEntry, "invite")
    disinvite: RoomListEntry | None = json_field(RoomListEntry, "disinvite")
    update: UpdateBody | None = json_field(UpdateBody, "update")
    flags: FlagsBody | None = json_field(FlagsBody, "flags")
    resumed: bool | None = json_field("bool", "resumed")
