# SPDX-License-Identifier: MIT
"""The room API: what Nextcloud tells the signaling server. No I/O.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Rooms" and
    "Backend requests"; effects measured with HPB 2.0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from . import frames
from .frames import Frame
from .hub import Hub
from .state import Room, Session

__all__ = ["NoDialout", "UnknownRequest", "apply"]


class UnknownRequest(Exception):
    """The request cannot be understood; answered with 400."""


class NoDialout(Exception):
    """Dialout is not possible; `status` is the answer's."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


def apply(hub: Hub, room_token: str, request: Any) -> None:
    """Carry out one request; a room that nobody is in is no error.

    Raises:
        UnknownRequest: If the type or the body is not known.
        NoDialout: For every dialout: the stand-in has none.
    """
    kind = request.get("type") if isinstance(request, dict) else None
    if kind == "dialout":
        # Only rooms with a number can be called from.
        if not room_token.isdigit():
            raise NoDialout("invalid_roomid", 400)
        raise NoDialout("no_client_available", 404)
    handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
    body = request.get(kind) if isinstance(request, dict) else None
    if handler is None or not isinstance(body, dict):
        raise UnknownRequest(str(kind))
    handler(hub, room_token, body)


def _in_call(hub: Hub, room_token: str, body: Frame) -> None:
    room = hub.rooms.by_token.get(room_token)
    if room is None:
        return
    if body.get("all"):
        _in_call_all(hub, room, _flags(body.get("incall")))
        return
    for entry in _entries(room, body.get("changed")):
        session_id = entry["sessionId"]
        if _flags(entry.get("inCall")) & 1:
            room.in_call.add(session_id)
        else:
            room.in_call.discard(session_id)
            hub.rooms.leave_call(session_id)
    _publish_users(room, body)


def _in_call_all(hub: Hub, room: Room, flags: int) -> None:
    update = {"roomid": room.token, "incall": flags, "all": True}
    frame = frames.event("participants", "update", update)
    if flags & 1:
        for session in room.sessions.values():
            # Internal clients are not told, measured.
            if not session.internal:
                room.in_call.add(session.session_id)
                session.send(frame)
        return
    # The stored list keeps its flags, measured: late joiners see old ones.
    room.in_call.clear()
    for session in room.sessions.values():
        hub.rooms.leave_call(session.session_id)
    room.send(frame)


def _participants(hub: Hub, room_token: str, body: Frame) -> None:
    room = hub.rooms.by_token.get(room_token)
    if room is None:
        return
    for item in body.get("changed") or []:
        permissions = item.get("permissions") if isinstance(item, dict) else None
        session = room.by_nc_session(str(item.get("sessionId"))) if item else None
        if session is not None and isinstance(permissions, list):
            session.permissions = frozenset(map(str, permissions))
    _publish_users(room, body)


def _publish_users(room: Room, body: Frame) -> None:
    """Take over the list, with `changed` merged in, and send it to everybody."""
    users = {item["sessionId"]: item for item in _entries(room, body.get("users"))}
    for entry in _entries(room, body.get("changed")):
        users[entry["sessionId"]] = {**users.get(entry["sessionId"], {}), **entry}
    room.users = list(users.values())
    room.send_users()


def _entries(room: Room, value: Any) -> list[Frame]:
    """Return participants with our session ids, without those we do not know."""
    found: list[Frame] = []
    for item in value if isinstance(value, list) else []:
        if not isinstance(item, dict):
            continue
        session = room.by_nc_session(str(item.get("sessionId")))
        if session is not None:
            entry = {key: item[key] for key in item if key != "permissions"}
            found.append({**entry, "sessionId": session.session_id})
    return found


def _flags(value: Any) -> int:
    return int(value) if isinstance(value, (bool, int)) else 0


def _message(hub: Hub, room_token: str, body: Frame) -> None:
    room = hub.rooms.by_token.get(room_token)
    if room is not None:
        payload = {"roomid": room_token, "data": body.get("data")}
        room.send(frames.event("room", "message", payload))


def _update(hub: Hub, room_token: str, body: Frame) -> None:
    _roomlist(hub, "update", room_token, body, body.get("userids"))
    properties = body.get("properties")
    room = hub.rooms.by_token.get(room_token)
    if room is not None and isinstance(properties, dict):
        if properties != room.properties:
            hub.rooms.set_properties(room, properties)


def _invite(hub: Hub, room_token: str, body: Frame) -> None:
    _roomlist(hub, "invite", room_token, body, body.get("userids"))
    rest = set(_strings(body.get("alluserids"))) - set(_strings(body.get("userids")))
    _roomlist(hub, "update", room_token, body, sorted(rest))


def _roomlist(hub: Hub, kind: str, room_token: str, body: Frame, user_ids: Any) -> None:
    payload: Frame = {"roomid": room_token}
    if "properties" in body:
        payload["properties"] = body["properties"]
    for session in _of_users(hub, user_ids):
        session.send(frames.event("roomlist", kind, payload))


def _disinvite(hub: Hub, room_token: str, body: Frame) -> None:
    removed = _of_users(hub, body.get("userids"))
    room = hub.rooms.by_token.get(room_token)
    for nc_session_id in _strings(body.get("sessionids")):
        session = room.by_nc_session(nc_session_id) if room is not None else None
        if session is not None and session not in removed:
            removed.append(session)
    _remove(hub, room_token, removed, "disinvited")
    rest = set(_strings(body.get("alluserids"))) - set(_strings(body.get("userids")))
    _roomlist(hub, "update", room_token, body, sorted(rest))


def _remove(hub: Hub, room_token: str, removed: Iterable[Session], reason: str) -> None:
    for session in removed:
        payload = {"roomid": room_token, "reason": reason}
        session.send(frames.event("roomlist", "disinvite", payload))
        # A session that is in the room ends: no resume, measured.
        if session.room is not None and session.room.token == room_token:
            hub.end(session)


def _delete(hub: Hub, room_token: str, body: Frame) -> None:
    _remove(hub, room_token, _of_users(hub, body.get("userids")), "deleted")
    room = hub.rooms.by_token.pop(room_token, None)
    if room is None:
        return
    for session in list(room.sessions.values()):
        if session.internal:
            session.send(frames.event("room", "delete"))
        hub.rooms.leave_call(session.session_id)
        session.room, session.nc_session_id = None, ""
        session.send(frames.room(None, "", None))
    room.sessions.clear()


def _switch_to(hub: Hub, room_token: str, body: Frame) -> None:
    room = hub.rooms.by_token.get(room_token)
    sessions = body.get("sessions")
    if not isinstance(sessions, (list, dict)) or not body.get("roomid"):
        raise UnknownRequest("switchto")
    for nc_session_id in sessions:
        session = room.by_nc_session(str(nc_session_id)) if room is not None else None
        if session is None:
            continue
        payload: Frame = {"roomid": body["roomid"]}
        if isinstance(sessions, dict) and sessions[nc_session_id] is not None:
            payload["details"] = sessions[nc_session_id]
        session.send(frames.event("room", "switchto", payload))


def _of_users(hub: Hub, user_ids: Any) -> list[Session]:
    wanted = set(_strings(user_ids))
    return [item for item in hub.sessions.values() if item.user_id in wanted - {""}]


def _strings(value: Any) -> list[str]:
    return [item for item in value or [] if isinstance(item, str)]


_HANDLERS: dict[str, Callable[[Hub, str, Frame], None]] = {
    "incall": _in_call,
    "participants": _participants,
    "message": _message,
    "update": _update,
    "invite": _invite,
    "disinvite": _disinvite,
    "delete": _delete,
    "switchto": _switch_to,
}
