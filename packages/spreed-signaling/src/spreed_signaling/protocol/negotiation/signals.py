# SPDX-License-Identifier: MIT
"""What is said about one exchange, and what its owner has to do."""

from __future__ import annotations

import enum
from typing import Any

from attrs import field, frozen

from ..messages import DataMessage, Party

__all__ = [
    "KEPT_CANDIDATES",
    "AddCandidate",
    "Answer",
    "ClosePeer",
    "MediaSignal",
    "NegotiationAction",
    "OpenPeer",
    "PeerState",
    "SendSignal",
]

KEPT_CANDIDATES = 64
"""Candidates kept for an offer to come; beyond it the oldest are dropped. A
server has a handful of addresses."""


class PeerState(enum.Enum):
    """State of a peer connection, as far as it matters here."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    """Failed or closed: it will not come back."""


@frozen(kw_only=True)
class MediaSignal:
    """The `data` of a message that belongs to media signaling."""

    kind: str
    """`offer`, `answer`, `candidate`, `requestoffer` or `endOfCandidates`."""
    room_type: str = "video"
    """`video` for camera and microphone, `screen` for a shared screen."""
    sid: str | None = None
    sdp: str | None = field(default=None, repr=False)
    candidate: dict[str, Any] | None = field(default=None, repr=False)
    sender: str | None = None
    """Session id of the publisher the signal is about."""

    @classmethod
    def from_data(cls, data: Any, sender: str | None) -> MediaSignal | None:
        """Read message data; None if it is not media signaling."""
        kinds = ("offer", "answer", "candidate", "endOfCandidates")
        if not isinstance(data, dict) or data.get("type") not in kinds:
            return None
        payload = data.get("payload")
        body = payload if isinstance(payload, dict) else {}
        sdp, candidate = body.get("sdp"), body.get("candidate")
        sid, room_type = data.get("sid"), data.get("roomType")
        origin = data.get("from")
        return cls(
            kind=data["type"],
            room_type=room_type if isinstance(room_type, str) else "video",
            sid=sid if isinstance(sid, str) else None,
            sdp=sdp if isinstance(sdp, str) else None,
            candidate=candidate if isinstance(candidate, dict) else None,
            sender=origin if isinstance(origin, str) else sender,
        )

    def to_message(self, recipient: str) -> DataMessage:
        """Return the message that carries this signal to the server."""
        data: dict[str, Any] = {"type": self.kind, "roomType": self.room_type}
        if self.kind != "requestoffer":
            data["to"] = recipient
        if self.sid is not None:
            data["sid"] = self.sid
        if self.sdp is not None:
            data["payload"] = {"type": self.kind, "sdp": self.sdp}
        if self.candidate is not None:
            data["payload"] = {"candidate": self.candidate}
        return DataMessage(recipient=Party.session(recipient), data=data)


# What the owner has to do.


@frozen
class SendSignal:
    """Send this signal to the publisher's session."""

    signal: MediaSignal


@frozen
class OpenPeer:
    """Build a peer connection for this offer (replacing any other) and answer it."""

    sid: str
    sdp: str = field(repr=False)


@frozen
class Answer:
    """The existing peer connection gets a new offer with the same sid."""

    sid: str
    sdp: str = field(repr=False)


@frozen
class AddCandidate:
    """Give a remote candidate to the peer connection."""

    sid: str | None
    candidate: dict[str, Any] = field(repr=False)


@frozen
class ClosePeer:
    """Close the peer connection of this sid."""

    sid: str


NegotiationAction = SendSignal | OpenPeer | Answer | AddCandidate | ClosePeer
