# SPDX-License-Identifier: MIT
"""From `event` messages to facts for the application."""

from __future__ import annotations

from .events import CallEnded, SessionEvent, UnhandledMessage
from .roster import Roster, in_call_flags
from .server_events import Event

__all__ = ["interpret_event"]


def interpret_event(
    message: Event, roster: Roster, room_token: str | None
) -> list[SessionEvent] | None:
    """Fold an event into the roster and return what it means.

    Returns:
        The facts, or None if the server ended our session: a `disinvite` from
        the current room cannot be resumed ("Room list events").
    """
    facts: list[SessionEvent] = []
    match message.target, message.kind:
        case "room", "join":
            facts += roster.receive_members(message.join or ())
        case "room", "change":
            facts += roster.receive_members(message.change or ())
        case "room", "leave":
            facts += roster.receive_leave(message.leave or ())
        case "participants", "update" if message.update is not None:
            update = message.update
            if update.room_token in (None, room_token):
                facts += roster.receive_update(update)
                if update.all and not in_call_flags(update.in_call) and room_token:
                    facts.append(CallEnded(room_token=room_token))
        case "roomlist", "disinvite" if message.disinvite is not None:
            if room_token is not None and message.disinvite.room_token == room_token:
                return None
            facts.append(UnhandledMessage(message=message))
        case _:
            facts.append(UnhandledMessage(message=message))
    return facts
