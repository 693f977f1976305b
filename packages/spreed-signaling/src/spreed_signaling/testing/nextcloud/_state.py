# SPDX-License-Identifier: MIT
"""Rooms, members and their calls, as Talk's database would hold them."""

from __future__ import annotations

import base64
import secrets

from attrs import define, field, frozen

from ...errors import UsageError
from ...protocol.auth import TicketAuth
from ...protocol.server_events import UserEntry
from ...types import InCallFlags

__all__ = ["DEFAULT_PERMISSIONS", "Member", "MemberState", "Room", "Rooms"]

DEFAULT_PERMISSIONS = (
    "publish-audio",
    "publish-video",
    "publish-screen",
    "control",
    "transient-data",
)
"""What a member may do unless told otherwise: everything."""

_OWNER, _USER, _GUEST = 1, 3, 4
_ALL_PERMISSIONS = 254


@frozen(kw_only=True)
class Member:
    """Somebody in a room: a user of the stand-in, or a guest."""

    room_token: str
    user_id: str
    """Nextcloud user id; empty for a guest."""
    display_name: str = field(repr=False)
    nc_session_id: str = field(repr=False)
    """Nextcloud's session id: 255 characters, with `+` and `/` as the real ones."""
    auth: TicketAuth
    """For the hello to the signaling server."""


@define(kw_only=True)
class MemberState:
    """What changes about a member."""

    member: Member
    permissions: tuple[str, ...] | None
    """Sent to the signaling server when joining; None omits them (old style)."""
    participant_type: int
    actor_id: str
    joined: bool = False
    """Whether the signaling server reported the session in the room."""
    in_call: InCallFlags = InCallFlags.DISCONNECTED
    last_ping: int = 0
    """Unix time in seconds of the last sign of life."""

    def entry(self) -> UserEntry:
        """Return the entry of Talk's `users` and `changed` lists."""
        user_id = self.member.user_id
        session_id = self.member.nc_session_id
        return UserEntry(
            # The signaling server replaces the first one by its own id; Talk sends
            # the second so that receivers know Nextcloud's too.
            session_id=session_id,
            nc_session_id=session_id,
            in_call=int(self.in_call),
            user_id=user_id or None,
            actor_type="users" if user_id else "guests",
            actor_id=self.actor_id,
            participant_type=self.participant_type,
            permissions=_ALL_PERMISSIONS,
            last_ping=self.last_ping,
        )


@define(kw_only=True)
class Room:
    """One conversation."""

    token: str
    name: str
    lang_id: str | None = None
    """Language that a moderator chose for captions; None until somebody does."""
    members: dict[str, MemberState] = field(factory=dict, repr=False)
    """By Nextcloud session id."""
    virtual: set[str] = field(factory=set, repr=False)
    """Virtual sessions (phone callers) that the signaling server reported."""

    def entries(self) -> list[UserEntry]:
        """Return Talk's list of the sessions that are in the room."""
        return [
            state.entry()
            for state in self.members.values()
            if state.joined or state.in_call
        ]


class Rooms:
    """All rooms of the stand-in and the tickets it gave out."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}
        self._tickets: dict[str, Member] = {}

    def add(self, token: str, name: str) -> Room:
        """Create a room; an existing one is renamed."""
        room = self._rooms.setdefault(token, Room(token=token, name=name))
        room.name = name
        return room

    def all(self) -> list[Room]:
        """Return every room."""
        return list(self._rooms.values())

    def find(self, token: str | None) -> Room | None:
        """Return a room, None if there is none of that token."""
        return None if token is None else self._rooms.get(token)

    def get(self, token: str) -> Room:
        """Return a room.

        Raises:
            UsageError: If it was never added.
        """
        room = self._rooms.get(token)
        if room is None:
            raise UsageError(f"the stand-in has no room {token!r}; call add_room first")
        return room

    def add_member(
        self,
        token: str,
        user_id: str,
        display_name: str,
        *,
        auth_url: str,
        permissions: tuple[str, ...] | None,
    ) -> Member:
        """Put somebody into a room, with a fresh session id and ticket.

        Raises:
            UsageError: If the room was never added.
        """
        room = self.get(token)
        ticket = f"{secrets.token_urlsafe(12)}:{user_id}:{secrets.token_hex(32)}"
        member = Member(
            room_token=token,
            user_id=user_id,
            display_name=display_name,
            nc_session_id=_session_id(),
            auth=TicketAuth(url=auth_url, user_id=user_id, ticket=ticket),
        )
        first = not room.members
        kind = (_OWNER if first else _USER) if user_id else _GUEST
        room.members[member.nc_session_id] = MemberState(
            member=member,
            permissions=permissions,
            participant_type=kind,
            actor_id=user_id or secrets.token_hex(20),
        )
        self._tickets[ticket] = member
        return member

    def state(self, member: Member) -> MemberState:
        """Return what changes about a member.

        Raises:
            UsageError: If it is a member of another stand-in.
        """
        state = self.get(member.room_token).members.get(member.nc_session_id)
        if state is None:
            raise UsageError("this member belongs to another stand-in")
        return state

    def by_ticket(self, ticket: object, user_id: object) -> Member | None:
        """Return the member who got this ticket, None if it is not valid."""
        member = self._tickets.get(ticket) if isinstance(ticket, str) else None
        return None if member is None or member.user_id != user_id else member

    def user_ids(self) -> list[str]:
        """Return all user ids, sorted, without guests; `admin` always exists."""
        found = {
            state.member.user_id
            for room in self._rooms.values()
            for state in room.members.values()
        }
        return sorted((found | {"admin"}) - {""})


def _session_id() -> str:
    """Return 255 characters of base64 that surely hold `+` and `/`."""
    text = base64.b64encode(secrets.token_bytes(192)).decode()
    return f"{text[:9]}+{text[10:19]}/{text[20:255]}"
