# SPDX-License-Identifier: MIT
"""The server's frames as JSON objects, and its error codes.

Plain dictionaries: a stand-in must be able to leave out a key exactly where the
real server does.

Source:
    Frames recorded from HPB 2.0.2; nextcloud-spreed-signaling
    `docs/standalone-signaling-api-v1.md`.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "Frame",
    "bye",
    "error",
    "event",
    "features",
    "hello",
    "mcu_message",
    "participants",
    "room",
    "welcome",
]

Frame = dict[str, Any]

_FEATURES = (
    "audio-video-permissions",
    "dialout",
    "federation",
    "hello-v2",
    "incall-all",
    "join-features",
    "mcu",
    "offer-codecs",
    "recipient-call",
    "simulcast",
    "switchto",
    "transient-data",
    "update-sdp",
    "virtual-sessions",
    "welcome",
)
"""What HPB 2.0.2 with a media server announces. A client must not conclude from
`dialout`, `federation` or `virtual-sessions` that the stand-in has them."""

_NEEDS_MEDIA = {"mcu", "simulcast", "update-sdp"}

_MESSAGES = {
    "already_joined": "Already joined this room.",
    "auth_failed": "Authentication failed.",
    "client_not_found": "No MCU client found to send message to.",
    "hello_expected": "A hello must come first.",
    "ignored": "Unknown kind of request.",
    "internal_error": "The request could not be completed.",
    "invalid_backend": "This Nextcloud server is not known here.",
    "invalid_candidate": "The candidate could not be read.",
    "invalid_client_type": "This kind of client is not allowed.",
    "invalid_format": "The message could not be read.",
    "invalid_hello_version": "This version of the hello is not supported.",
    "invalid_sdp": "The session description could not be read.",
    "invalid_token": "The token is not valid.",
    "no_candidate": "Payload does not contain a candidate.",
    "no_sdp": "Payload does not contain a SDP.",
    "no_such_session": "The session to resume does not exist.",
    "not_allowed": "Not allowed.",
    "not_in_room": "Join a room first.",
    "processing_failed": "Processing of the message failed, please check server logs.",
    "room_join_failed": "The room could not be joined.",
    "token_expired": "The token is no longer valid.",
    "token_not_valid_yet": "The token is not valid yet.",
    "too_many_requests": "Too many failed attempts, try again later.",
}


def features(*, media: bool, internal: bool | None = None) -> list[str]:
    """Return the feature list.

    Args:
        media: Whether a media server is there.
        internal: For the `hello` of an internal client or of another client;
            None for the union in `welcome`.
    """
    found = [name for name in _FEATURES if media or name not in _NEEDS_MEDIA]
    if internal is True:
        found.remove("audio-video-permissions")
    if internal is False:
        found.remove("virtual-sessions")
    return found


def welcome(version: str, *, media: bool) -> Frame:
    """Return the first frame of every connection."""
    body = {"version": version, "features": features(media=media)}
    return {"type": "welcome", "welcome": body}


def hello(
    message_id: str | None,
    *,
    version: str,
    session_id: str,
    resume_id: str,
    user_id: str,
    server: Frame,
) -> Frame:
    """Return the answer to a hello; a resumed session gets the same."""
    body = {
        "version": version,
        "sessionid": session_id,
        "resumeid": resume_id,
        "userid": user_id,
        "server": server,
    }
    return _with_id(message_id, {"type": "hello", "hello": body})


def room(message_id: str | None, room_token: str, properties: Frame | None) -> Frame:
    """Return a `room` frame; an empty token means "you are out"."""
    body: Frame = {"roomid": room_token}
    if properties is not None:
        body["properties"] = properties
    return _with_id(message_id, {"type": "room", "room": body})


def bye(message_id: str | None = None, reason: str | None = None) -> Frame:
    """Return a `bye`; the answer to a client's has no inner object."""
    frame: Frame = {"type": "bye"}
    if reason is not None:
        frame["bye"] = {"reason": reason}
    return _with_id(message_id, frame)


def error(
    message_id: str | None,
    code: str,
    message: str | None = None,
    details: Any = None,
) -> Frame:
    """Return an error with the code's usual text, or with Nextcloud's."""
    body: Frame = {"code": code, "message": message or _MESSAGES.get(code, code)}
    if details is not None:
        body["details"] = details
    return _with_id(message_id, {"type": "error", "error": body})


def event(target: str, kind: str, payload: Any = None) -> Frame:
    """Return an event; `room/delete` has no payload."""
    body: Frame = {"target": target, "type": kind}
    if payload is not None:
        body[kind] = payload
    return {"type": "event", "event": body}


def participants(room_token: str, users: list[Frame]) -> Frame:
    """Return an update of the list of participants."""
    return event("participants", "update", {"roomid": room_token, "users": users})


def mcu_message(
    sender: Frame,
    recipient_id: str,
    kind: str,
    room_type: str,
    sid: str,
    payload: Frame,
) -> Frame:
    """Return an offer, answer or candidate of the media server."""
    data = {
        "to": recipient_id,
        "from": sender["sessionid"],
        "type": kind,
        "roomType": room_type,
        "payload": payload,
        "sid": sid,
    }
    return {"type": "message", "message": {"sender": sender, "data": data}}


def _with_id(message_id: str | None, frame: Frame) -> Frame:
    return frame if message_id is None else {"id": message_id, **frame}
