# SPDX-License-Identifier: MIT
"""Who is in the room and in the call: a pure fold over server events.

Source:
    Participants updates are partial and merged by session id; `all: true`
    concerns everybody except internal clients (measured with HPB 2.0.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ..types import InCallFlags, Participant
from .events import ParticipantChanged, ParticipantJoined, ParticipantLeft
from .server_events import RoomMember, UpdateBody, UserEntry

__all__ = ["Roster", "RosterEvent", "in_call_flags"]

RosterEvent = ParticipantJoined | ParticipantLeft | ParticipantChanged


def in_call_flags(value: Any) -> InCallFlags | None:
    """Read an `inCall` value; None if it says nothing.

    Source:
        Integers, booleans and missing values were all seen in the field.
    """
    if isinstance(value, bool):
        return InCallFlags.IN_CALL if value else InCallFlags.DISCONNECTED
    if isinstance(value, int):
        # Later bits must not make the known ones unreadable.
        return InCallFlags(value & 0xF) if value > 0 else InCallFlags.DISCONNECTED
    return None


class Roster:
    """Participants by HPB session id, without ourselves.

    `receive_*` methods fold one message in and return what changed.
    """

    def __init__(self) -> None:
        self._participants: dict[str, Participant] = {}
        self._own_session_id: str | None = None

    @property
    def participants(self) -> Mapping[str, Participant]:
        """The current state, by session id."""
        return dict(self._participants)

    def find_nc_session(self, nc_session_id: str) -> Participant | None:
        """Return who has this Nextcloud session id, if known yet."""
        for participant in self._participants.values():
            if participant.nc_session_id == nc_session_id:
                return participant
        return None

    def clear(self, own_session_id: str | None) -> list[RosterEvent]:
        """Forget everybody: a new session knows nothing yet."""
        self._own_session_id = own_session_id
        gone = list(self._participants.values())
        self._participants.clear()
        return [ParticipantLeft(participant=one) for one in gone]

    def receive_members(self, members: Iterable[RoomMember]) -> list[RosterEvent]:
        """Fold a room `join` or `change` event."""
        events: list[RosterEvent] = []
        for member in members:
            if not member.session_id:
                continue
            changes: dict[str, Any] = {}
            if member.user_id is not None:
                changes["user_id"] = member.user_id
            name = (member.user or {}).get("displayname")
            if isinstance(name, str):
                changes["display_name"] = name
            if member.nc_session_id:
                changes["nc_session_id"] = member.nc_session_id
            if member.features is not None:
                changes["features"] = frozenset(member.features)
            if member.federated is not None:
                changes["federated"] = member.federated
            events += self._merge(member.session_id, changes)
        return events

    def receive_leave(self, session_ids: Iterable[str]) -> list[RosterEvent]:
        """Fold a room `leave` event."""
        events: list[RosterEvent] = []
        for session_id in session_ids:
            gone = self._participants.pop(session_id, None)
            if gone is not None:
                events.append(ParticipantLeft(participant=gone))
        return events

    def receive_update(self, update: UpdateBody) -> list[RosterEvent]:
        """Fold a participants update, partial or for `all`."""
        events: list[RosterEvent] = []
        if update.all:
            flags = in_call_flags(update.in_call)
            for session_id, one in list(self._participants.items()):
                if flags is not None and not (flags and one.internal):
                    events += self._merge(session_id, {"in_call": flags})
        for entry in update.users or ():
            entry_id = _text(entry, entry.session_id, "sessionid")
            if entry_id:
                events += self._merge(entry_id, _entry_changes(entry))
        return events

    def _merge(self, session_id: str, changes: dict[str, Any]) -> list[RosterEvent]:
        if session_id == self._own_session_id:
            return []
        before = self._participants.get(session_id)
        if before is None:
            added = Participant(session_id=session_id, **changes)
            self._participants[session_id] = added
            return [ParticipantJoined(participant=added)]
        after = attrs.evolve(before, **changes)
        if after == before:
            return []
        self._participants[session_id] = after
        return [ParticipantChanged(before=before, participant=after)]


def _text(entry: UserEntry, value: str | None, key: str) -> str | None:
    """Read a text that some senders spell in lower case."""
    other = entry.extra.get(key)
    return other if value is None and isinstance(other, str) else value


def _display_name(entry: UserEntry) -> str | None:
    name = entry.display_name or (entry.user or {}).get("displayname")
    return name if isinstance(name, str) else None


def _entry_changes(entry: UserEntry) -> dict[str, Any]:
    """What one entry says; keys it lacks leave the participant unchanged."""
    changes: dict[str, Any] = {
        # Empty in some updates about people who leave; that is no news.
        "nc_session_id": _text(entry, entry.nc_session_id, "nextcloudsessionid")
        or None,
        "user_id": _text(entry, entry.user_id, "userid"),
        "in_call": in_call_flags(entry.in_call),
        "display_name": _display_name(entry),
        "internal": entry.internal,
        "virtual": entry.virtual,
        "actor_type": entry.actor_type,
        "actor_id": entry.actor_id,
        "features": None if entry.features is None else frozenset(entry.features),
    }
    if entry.actor_type == "federated_users":
        changes["federated"] = True
    return {key: value for key, value in changes.items() if value is not None}
