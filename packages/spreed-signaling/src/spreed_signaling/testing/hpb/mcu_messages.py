# SPDX-License-Identifier: MIT
"""Reading media messages, and the permissions they need. Pure."""

from __future__ import annotations

from ...protocol.messages import DataMessage
from .state import Session

__all__ = [
    "is_usable",
    "is_well_formed",
    "may_publish",
    "room_type_of",
    "sdp_of",
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
