# SPDX-License-Identifier: MIT
"""Messages, control and shared data between clients. No I/O.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Sending
    messages between clients", "Control messages" and "Transient data".
"""

from __future__ import annotations

from typing import Any

from ...protocol.messages import Control, DataMessage, Party, TransientMessage
from . import frames
from .hub import Hub
from .rooms import remove_transient
from .state import Session

__all__ = ["is_valid", "relay", "transient"]


def is_valid(message: DataMessage | Control) -> bool:
    """Return whether recipient and data are there."""
    recipient = message.recipient
    if recipient is None or message.data is None:
        return False
    if recipient.type == "session":
        return bool(recipient.session_id)
    if recipient.type == "user":
        return bool(recipient.user_id)
    return recipient.type in ("room", "call")


def relay(hub: Hub, sender: Session, message: DataMessage | Control) -> None:
    """Pass a valid message on.

    Silence is success, and also its opposite: unknown recipients, oneself and
    missing permissions drop it without a word.
    """
    if isinstance(message, Control) and not sender.may("control"):
        return
    recipient = message.recipient
    if recipient is None:
        raise AssertionError("checked by is_valid")
    name = {**sender.name(), "type": recipient.type}
    frame = {
        "type": message.type,
        message.type: {"sender": name, "data": message.data},
    }
    for session in _recipients(hub, sender, recipient):
        session.send(frame)


def _recipients(hub: Hub, sender: Session, recipient: Party) -> list[Session]:
    found: list[Session] = []
    if recipient.type == "session":
        target = hub.sessions.get(recipient.session_id or "")
        found = [] if target is None else [target]
    elif recipient.type == "user":
        if recipient.user_id != sender.user_id:
            found = [
                item
                for item in hub.sessions.values()
                if item.user_id == recipient.user_id
            ]
    elif sender.room is not None:
        room = sender.room
        found = [
            item
            for item in room.sessions.values()
            if recipient.type == "room" or room.is_in_call(item)
        ]
    return [item for item in found if item is not sender]


def transient(session: Session, message: TransientMessage, now: float) -> None:
    """Set or remove a shared value of the room."""
    room = session.room
    code: str | None = None
    if room is None:
        code = "not_in_room"
    elif message.kind not in ("set", "remove"):
        code = "ignored"
    elif not message.key:
        code = "invalid_format"
    elif not session.may("transient-data"):
        code = "not_allowed"
    if room is None or code is not None or not message.key:
        session.send(frames.error(message.id, code or "invalid_format"))
        return
    if message.kind == "remove" or message.value is None:
        remove_transient(room, message.key)
        return
    if message.ttl_ns:
        room.transient_expiry[message.key] = now + message.ttl_ns / 1e9
    else:
        room.transient_expiry.pop(message.key, None)
    missing = object()
    old = room.transient.get(message.key, missing)
    if old == message.value:
        return
    room.transient[message.key] = message.value
    body: dict[str, Any] = {"type": "set", "key": message.key, "value": message.value}
    if old is not missing:
        body["oldvalue"] = old
    room.send({"type": "transient", "transient": body})
