# SPDX-License-Identifier: MIT
"""Rooms of the embedded server: who is in which, and what they hear of it.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Join room"
    and "Transient data"; order of frames as recorded from HPB 2.0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import frames
from .effects import Effect, MediaEnded, RoomLeft, RoomPing
from .frames import Frame
from .options import HpbOptions
from .state import Room, Session

__all__ = ["Rooms", "remove_transient"]


class Rooms:
    """All rooms; those without anybody in them vanish.

    Args:
        options: Timings.
        effects: Gets what the shell has to do.
        wall: Returns the time of day at `now`, whole seconds.
    """

    def __init__(
        self,
        options: HpbOptions,
        effects: list[Effect],
        wall: Callable[[float], int],
    ) -> None:
        self.by_token: dict[str, Room] = {}
        self._options = options
        self._effects = effects
        self._wall = wall

    def enter(
        self,
        session: Session,
        message_id: str | None,
        room_token: str,
        nc_session_id: str,
        answer: Frame | None,
        now: float,
    ) -> None:
        """A session enters a room; `Hub.displace` comes first.

        Args:
            session: Who.
            message_id: Id of the request.
            room_token: Where.
            nc_session_id: Nextcloud's session id; internal clients have none.
            answer: Nextcloud's answer; None for internal clients.
            now: Monotonic seconds.
        """
        if session.room is not None:
            self.leave(session)
        room = self.by_token.get(room_token)
        if room is None:
            room = self._open_room(session, room_token, answer, now)
        self._apply_answer(session, answer)
        session.nc_session_id = nc_session_id
        session.join_deadline = None
        session.room = room
        session.in_call_since = self._wall(now)
        others = [item.entry() for item in room.sessions.values()]
        room.sessions[session.session_id] = session
        session.send(frames.room(message_id, room_token, room.properties))
        if others:
            session.send(frames.event("room", "join", others))
        room.send(frames.event("room", "join", [session.entry()]))
        if room.transient:
            data = {"type": "initial", "data": dict(room.transient)}
            session.send({"type": "transient", "transient": data})
        if session.internal:
            room.send_users()

    def leave(self, session: Session, message_id: str | None = None) -> None:
        """A session leaves its room; silence if it is in none."""
        room, session.room = session.room, None
        if room is None:
            return
        room.sessions.pop(session.session_id, None)
        room.in_call.discard(session.session_id)
        # The list of participants keeps the entry until Nextcloud sends a new one,
        # measured: a bot must not believe it more than the leave event.
        if not room.sessions:
            self.by_token.pop(room.token, None)
        self._effects.append(MediaEnded(session_id=session.session_id))
        if session.nc_session_id:
            left = RoomLeft(
                backend_url=session.backend_url,
                room_token=room.token,
                user_id=session.user_id,
                nc_session_id=session.nc_session_id,
            )
            self._effects.append(left)
        session.nc_session_id = ""
        session.permissions = None
        room.send(frames.event("room", "leave", [session.session_id]))
        if session.internal:
            room.send_users()
        if message_id is not None:
            session.send(frames.room(message_id, "", None))

    def already_joined(
        self, session: Session, message_id: str | None, nc_session_id: str
    ) -> None:
        """A session asks for the room that it is in."""
        room = session.room
        if room is None:
            raise AssertionError("called for a session outside of rooms")
        # 2.0.2 files a missing id under the public one, and pings that from now on.
        session.nc_session_id = nc_session_id or session.session_id
        body: Frame = {"roomid": room.token}
        if room.properties is not None:
            body["properties"] = room.properties
        details = {"room": body}
        session.send(frames.error(message_id, "already_joined", details=details))

    def set_in_call(self, session: Session, flags: int, now: float) -> None:
        """An internal client reports its call flags."""
        flags = max(flags, 0)
        if flags == session.in_call:
            return
        session.in_call = flags
        session.in_call_since = self._wall(now)
        if not flags & 1:
            self._effects.append(MediaEnded(session_id=session.session_id))
        if session.room is not None:
            session.room.send_users()

    def leave_call(self, session_id: str) -> None:
        """A participant left the call: its media ends, its session does not."""
        self._effects.append(MediaEnded(session_id=session_id))

    def set_properties(self, room: Room, properties: Frame) -> None:
        """Nextcloud reports new properties; everybody in the room gets them."""
        room.properties = properties
        room.send(frames.room(None, room.token, properties))

    def deadlines(self) -> list[float]:
        """Return the times at which `tick` has something to do."""
        times: list[float] = []
        for room in self.by_token.values():
            times += [room.ping_at, *room.transient_expiry.values()]
        return times

    def tick(self, now: float) -> None:
        """Do everything that is due."""
        for room in list(self.by_token.values()):
            self._tick_room(room, now)

    def _open_room(
        self, session: Session, room_token: str, answer: Frame | None, now: float
    ) -> Room:
        room = Room(token=room_token, backend_url=session.backend_url)
        room.ping_at = now + self._options.room_ping_s
        # Only who opens a room brings its properties, measured: in a room that an
        # internal client opened nobody sees any until Nextcloud changes them.
        if answer is not None and isinstance(answer.get("properties"), dict):
            room.properties = answer["properties"]
        self.by_token[room_token] = room
        return room

    def _apply_answer(self, session: Session, answer: Frame | None) -> None:
        session.permissions = None
        session.room_data = None
        if answer is None:
            return
        if isinstance(answer.get("permissions"), list):
            session.permissions = frozenset(map(str, answer["permissions"]))
        if isinstance(answer.get("session"), dict):
            session.room_data = answer["session"]

    def _tick_room(self, room: Room, now: float) -> None:
        for key in [k for k, at in room.transient_expiry.items() if at <= now]:
            del room.transient_expiry[key]
            remove_transient(room, key)
        if room.ping_at > now:
            return
        room.ping_at = now + self._options.room_ping_s
        entries = tuple(
            (item.user_id, item.nc_session_id)
            for item in room.sessions.values()
            if item.nc_session_id
        )
        if entries:
            ping = RoomPing(
                backend_url=room.backend_url, room_token=room.token, entries=entries
            )
            self._effects.append(ping)


def remove_transient(room: Room, key: str) -> None:
    """Remove a room's shared value and tell everybody; silence if there is none."""
    if key not in room.transient:
        return
    body: dict[str, Any] = {
        "type": "remove",
        "key": key,
        "oldvalue": room.transient.pop(key),
    }
    room.transient_expiry.pop(key, None)
    room.send({"type": "transient", "transient": body})
