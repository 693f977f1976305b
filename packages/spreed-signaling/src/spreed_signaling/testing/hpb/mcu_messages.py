# SPDX-License-Identifier: MIT
"""Reading and writing media messages, and the permissions they need. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protocol.messages import DataMessage
from . import frames
from .frames import Frame
from .state import Session

if TYPE_CHECKING:
    from .sfu_peers import Description

__all__ = [
    "candidate_of",
    "description_frames",
    "is_usable",
    "is_well_formed",
    "may_publish",
    "room_type_of",
    "sdp_of",
    "selection_of",
    "target_of",
]

_ROOM_TYPES = ("video", "audio", "screen")


def is_well_formed(message: DataMessage) -> bool:
    """Return whether data for a session names no unknown room type.

    Data without a type is relayed, measured with 2.0.2.
    """
    data = message.data
    room_type = data.get("roomType") if isinstance(data, dict) else None
    return not room_type or room_type in _ROOM_TYPES


def target_of(message: DataMessage) -> str:
    """Return whose stream a message is about."""
    recipient = message.recipient
    return (recipient.session_id or "") if recipient is not None else ""


def room_type_of(message: DataMessage) -> str:
    """Return `video` or `screen`."""
    # Audio-only publishers use `video` too.
    found = message.data.get("roomType") or "video"
    return "screen" if found == "screen" else "video"


def sdp_of(message: DataMessage) -> str | None:
    """Return the session description of an offer or answer."""
    payload = message.data.get("payload")
    sdp = payload.get("sdp") if isinstance(payload, dict) else None
    return sdp if isinstance(sdp, str) and sdp else None


def candidate_of(message: DataMessage) -> Frame | None:
    """Return the candidate of a message."""
    payload = message.data.get("payload")
    value = payload.get("candidate") if isinstance(payload, dict) else None
    if isinstance(value, dict) and isinstance(value.get("candidate"), str):
        return value
    return None


def selection_of(message: DataMessage) -> dict[str, bool] | None:
    """Return which kinds of media to switch on or off; None if that is malformed."""
    payload = message.data.get("payload")
    wanted = {
        kind: payload[kind]
        for kind in ("audio", "video")
        if isinstance(payload, dict) and kind in payload
    }
    if all(isinstance(value, bool) for value in wanted.values()):
        return wanted
    return None


def description_frames(
    recipient_id: str,
    sender: Session | str,
    *,
    kind: str,
    room_type: str,
    description: Description,
) -> list[Frame]:
    """Return an offer or answer of the media server, and its candidates.

    Args:
        recipient_id: Session id of who gets them.
        sender: Whose media it is about; a session is named with its user.
        kind: `offer` or `answer`.
        room_type: `video` or `screen`.
        description: What to tell.
    """
    sender_id = sender if isinstance(sender, str) else sender.session_id
    plain: Frame = {"type": "session", "sessionid": sender_id}
    # Only answers name the user, measured.
    name = plain if isinstance(sender, str) else sender.name()
    sid = description.sid
    payload: Frame = {"type": kind, "sdp": description.sdp}
    told = [frames.mcu_message(name, recipient_id, kind, room_type, sid, payload)]
    for candidate in description.candidates:
        payload = {"candidate": candidate}
        told.append(
            frames.mcu_message(
                plain, recipient_id, "candidate", room_type, sid, payload
            )
        )
    return told


def is_usable(candidate: str) -> bool:
    """Return False for what the real server drops silently."""
    fields = candidate.removeprefix("candidate:").split()
    address = fields[4] if len(fields) > 4 else ""
    return not address.endswith(".local") and address not in ("0.0.0.0", "::")


def may_publish(session: Session, room_type: str, kinds: set[str]) -> bool:
    """Return whether a session may publish these kinds of media."""
    if room_type == "screen":
        return session.may("publish-screen")
    return all(
        session.may("publish-media", f"publish-{kind}")
        for kind in kinds & {"audio", "video"}
    )
