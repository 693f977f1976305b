# SPDX-License-Identifier: MIT
"""From messages to facts for the application."""

from __future__ import annotations

from ..types import InCallFlags
from .events import (
    CallEnded,
    ControlReceived,
    DataReceived,
    SessionEvent,
    UnhandledMessage,
)
from .messages import Control, DataMessage, Message, Party
from .roster import Roster, in_call_flags
from .server_events import Event

__all__ = ["interpret_event", "interpret_message"]


def interpret_message(message: Message) -> SessionEvent:
    """Return what a message means that changes nothing in the session."""
    match message:
        case DataMessage(sender=sender, data=data):
            sender = sender or Party()
            return DataReceived(
                sender_session_id=sender.session_id,
                sender_user_id=sender.user_id,
                data=data,
            )
        case Control(sender=sender, data=data):
            sender = sender or Party()
            return ControlReceived(sender_session_id=sender.session_id, data=data)
        case _:
            return UnhandledMessage(message=message)


def interpret_event(
    message: Event, roster: Roster, room_token: str
) -> list[SessionEvent] | None:
    """Fold an event into the roster and return what it means.

    Args:
        message: The event.
        roster: Is changed.
        room_token: The room we are in, or are about to join.

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
                ended = in_call_flags(update.in_call) == InCallFlags.DISCONNECTED
                if update.all and ended:
                    facts.append(CallEnded(room_token=room_token))
        case "roomlist", "disinvite" if message.disinvite is not None:
            if message.disinvite.room_token == room_token:
                return None
            facts.append(UnhandledMessage(message=message))
        case _:
            facts.append(UnhandledMessage(message=message))
    return facts
