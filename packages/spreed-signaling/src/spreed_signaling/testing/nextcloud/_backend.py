# SPDX-License-Identifier: MIT
"""What Talk answers to the signaling server: pure functions over the rooms.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Backend
    requests"; shapes recorded with HPB 1.2.4 and 2.0.2.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from ...protocol.auth import backend_checksum
from ...protocol.backend import (
    BackendAuth,
    BackendError,
    BackendPing,
    BackendRoom,
    BackendSession,
)
from ...protocol.messages import Message
from ._state import MemberState, Room, Rooms

__all__ = ["answer_backend", "checksum_ok", "error", "summarise"]

_MIN_RANDOM = 32
_GROUP_CONVERSATION = 2


def checksum_ok(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether a request carries the checksum of the shared secret."""
    random = headers.get("spreed-signaling-random", "")
    given = headers.get("spreed-signaling-checksum", "")
    if len(random) < _MIN_RANDOM:
        return False
    return hmac.compare_digest(
        backend_checksum(secret, random, body).encode(), given.encode()
    )


def error(code: str, message: str) -> BackendError:
    """Return a refusal."""
    return BackendError(code=code, message=message)


def answer_backend(rooms: Rooms, request: Message, now: int) -> Message:
    """Answer one verified request of the signaling server.

    Args:
        rooms: Changed by joins, leaves, pings and virtual sessions.
        request: A message of `protocol.backend`.
        now: Unix time in seconds.
    """
    if isinstance(request, BackendAuth):
        return _auth(rooms, request)
    if isinstance(request, BackendRoom):
        return _room(rooms, request, now)
    if isinstance(request, BackendPing):
        return _ping(rooms, request, now)
    if isinstance(request, BackendSession):
        return _session(rooms, request)
    return error("unknown_type", "This request is not known.")


def summarise(request: Message) -> str:
    """Describe a request in a few words, without names and secrets."""
    if isinstance(request, BackendRoom):
        return f"room {request.action or 'join'} {request.room_token}"
    if isinstance(request, BackendPing):
        return f"ping {request.room_token} {len(request.entries or ())}"
    if isinstance(request, BackendSession):
        return f"session {request.action} {request.room_token}"
    return request.type if isinstance(request, BackendAuth) else "unknown"


def _auth(rooms: Rooms, request: BackendAuth) -> Message:
    params = request.params or {}
    member = rooms.by_ticket(params.get("ticket"), params.get("userid"))
    if member is None:
        return error("invalid_ticket", "The given ticket is not valid for this user.")
    if not member.user_id:
        return BackendAuth(version="1.0")
    user = {"displayname": member.display_name}
    return BackendAuth(version="1.0", user_id=member.user_id, user=user)


def _find(room: Room | None, nc_session_id: str | None) -> MemberState | None:
    if room is None or nc_session_id is None:
        return None
    return room.members.get(nc_session_id)


def _room(rooms: Rooms, request: BackendRoom, now: int) -> Message:
    room = rooms.find(request.room_token)
    state = _find(room, request.nc_session_id)
    if room is None or (state is None and request.action != "leave"):
        return error("no_such_room", "The user is not invited to this room.")
    answer = BackendRoom(
        version="1.0",
        room_token=room.token,
        properties={"name": room.name, "type": _GROUP_CONVERSATION},
    )
    if state is None:
        return answer
    if request.action == "leave":
        state.joined = False
        state.in_call = state.in_call.DISCONNECTED
        return answer
    state.joined = True
    state.last_ping = now
    return BackendRoom(
        version=answer.version,
        room_token=answer.room_token,
        properties=answer.properties,
        permissions=state.permissions,
    )


def _ping(rooms: Rooms, request: BackendPing, now: int) -> Message:
    # One ping may be about one room, or about sessions of any (room token "").
    for entry in request.entries or ():
        for room in rooms.all():
            state = _find(room, entry.nc_session_id)
            if state is not None:
                state.last_ping = now
    return BackendRoom(version="1.0", room_token=request.room_token or "")


def _session(rooms: Rooms, request: BackendSession) -> Message:
    room = rooms.find(request.room_token)
    if room is None:
        return error("no_such_room", "The room does not exist.")
    if request.session_id is not None:
        if request.action == "add":
            room.virtual.add(request.session_id)
        else:
            room.virtual.discard(request.session_id)
    return BackendSession(version="1.0", room_token=room.token)
