# SPDX-License-Identifier: MIT
"""Sessions and rooms of the embedded server: the rules, without I/O.

Each method is one thing that happened; frames for clients go into their
sessions, what the shell has to do beside that comes out of `take_effects`.
Times are monotonic seconds given as `now`; `tick` does what is due at `deadline`.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Join room",
    "Resuming sessions", "Internal clients"; order of frames as recorded from
    HPB 2.0.2.
"""

from __future__ import annotations

from typing import Any

from . import frames
from .effects import Effect, MediaEnded, RoomLeft, RoomPing
from .frames import Frame
from .options import VERSION, HpbOptions
from .state import Link, Room, Session

__all__ = ["Hub", "remove_transient"]


class Hub:
    """All sessions and rooms.

    Args:
        options: Timings and limits.
        media: Whether a media server is there.
        epoch: Seconds to add to `now` for the wall clock (`lastPing`).
    """

    def __init__(self, options: HpbOptions, *, media: bool, epoch: float = 0.0) -> None:
        self._options = options
        self._media = media
        self._epoch = epoch
        self._effects: list[Effect] = []
        self.links: set[Link] = set()
        self.sessions: dict[str, Session] = {}
        self.rooms: dict[str, Room] = {}

    # Sockets and sessions.

    def connect(self, link: Link, now: float) -> None:
        """A socket opened; it gets the welcome and has to say hello."""
        self.links.add(link)
        link.hello_deadline = now + self._options.hello_timeout_s
        link.send(frames.welcome(VERSION, media=self._media))

    def hello_failed(self, link: Link, now: float) -> None:
        """A hello was refused; the time for the next one starts anew."""
        link.hello_deadline = now + self._options.hello_timeout_s

    def register(
        self, link: Link, message_id: str | None, session: Session, now: float
    ) -> None:
        """A new session was accepted on a socket."""
        self.sessions[session.session_id] = session
        self._attach(link, session)
        if not session.internal and not session.user_id:
            self.expect_join(session, now)
        if session.internal and "internal-incall" not in session.features:
            # Without the feature the server takes the client for a speaker.
            session.in_call = 3
        session.in_call_since = self._wall(now)
        link.send(self._hello_reply(message_id, session))

    def resume(self, link: Link, message_id: str | None, resume_id: str) -> bool:
        """Continue a session on a new socket.

        Returns:
            Whether there is such a session. If not, a full hello may follow.
        """
        session = next(
            (item for item in self.sessions.values() if item.resume_id == resume_id),
            None,
        )
        if session is None:
            return False
        if session.link is not None:
            session.link.send(frames.bye(reason="session_resumed"))
            session.link.session = None
            session.link.close()
        self._attach(link, session)
        link.send(self._hello_reply(message_id, session))
        queued, session.queue = session.queue, []
        for frame in queued:
            link.send(frame)
        if session.room is not None and not any(map(_is_participants, queued)):
            session.room.send_users(only=session)
        return True

    def disconnect(self, link: Link, now: float) -> None:
        """A socket is gone; its session may be resumed for a while."""
        self.links.discard(link)
        session, link.session = link.session, None
        if session is not None and session.link is link:
            session.link = None
            session.expires_at = now + self._options.resume_window_s

    def bye(self, link: Link, message_id: str | None) -> None:
        """The client ends its session."""
        session = link.session
        link.send(frames.bye(message_id))
        if session is not None:
            self.end(session)
        link.close()

    def end(self, session: Session) -> None:
        """End a session at once: no resume, out of the room, media closed."""
        if session.ended:
            return
        self.leave(session)
        self._effects.append(MediaEnded(session_id=session.session_id))
        session.ended = True
        self.sessions.pop(session.session_id, None)
        if session.link is not None:
            session.link.session = None
            session.link.close()

    # Rooms.

    def join(
        self,
        session: Session,
        message_id: str | None,
        room_token: str,
        nc_session_id: str,
        answer: Frame | None,
        now: float,
    ) -> None:
        """A session enters a room.

        Args:
            session: Who.
            message_id: Id of the request.
            room_token: Where.
            nc_session_id: Nextcloud's session id; internal clients have none.
            answer: Nextcloud's answer; None for internal clients.
            now: Monotonic seconds.
        """
        self._displace(session, nc_session_id)
        if session.room is not None:
            self.leave(session)
        room = self.rooms.get(room_token)
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
            self.rooms.pop(room.token, None)
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

    def expect_join(self, session: Session, now: float) -> None:
        """A session without user id has to join a room again."""
        session.join_deadline = now + self._options.join_timeout_s

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

    # Time and effects.

    def take_effects(self) -> list[Effect]:
        """Return what the shell has to do, once."""
        effects, self._effects = self._effects, []
        return effects

    def deadline(self) -> float | None:
        """Return when `tick` has to be called next."""
        times = [item.hello_deadline for item in self.links]
        for session in self.sessions.values():
            times += [session.expires_at, session.join_deadline]
        for room in self.rooms.values():
            times += [room.ping_at, *room.transient_expiry.values()]
        return min((item for item in times if item is not None), default=None)

    def tick(self, now: float) -> None:
        """Do everything that is due."""
        for link in [item for item in self.links if _due(item.hello_deadline, now)]:
            link.hello_deadline = None
            link.send(frames.bye(reason="hello_timeout"))
            link.close()
        for session in list(self.sessions.values()):
            if _due(session.join_deadline, now):
                session.send(frames.bye(reason="room_join_timeout"))
                self.end(session)
            elif _due(session.expires_at, now):
                self.end(session)
            elif len(session.queue) > self._options.max_queued_messages:
                self.end(session)
        for room in list(self.rooms.values()):
            self._tick_room(room, now)

    # Inside.

    def _attach(self, link: Link, session: Session) -> None:
        link.session, session.link = session, link
        link.hello_deadline = session.expires_at = None

    def _hello_reply(self, message_id: str | None, session: Session) -> Frame:
        found = frames.features(media=self._media, internal=session.internal)
        return frames.hello(
            message_id,
            version=session.version,
            session_id=session.session_id,
            resume_id=session.resume_id,
            user_id=session.user_id,
            server={"version": VERSION, "features": found},
        )

    def _displace(self, session: Session, nc_session_id: str) -> None:
        """End an older session with the same Nextcloud session id."""
        for other in list(self.sessions.values()):
            if other is not session and other.nc_session_id == nc_session_id != "":
                # The newer one carries on: Nextcloud must not see a leave.
                other.nc_session_id = ""
                other.send(frames.bye(reason="room_session_reconnected"))
                self.end(other)

    def _open_room(
        self, session: Session, room_token: str, answer: Frame | None, now: float
    ) -> Room:
        room = Room(token=room_token, backend_url=session.backend_url)
        room.ping_at = now + self._options.room_ping_s
        # Only who opens a room brings its properties, measured: in a room that an
        # internal client opened nobody sees any until Nextcloud changes them.
        if answer is not None and isinstance(answer.get("properties"), dict):
            room.properties = answer["properties"]
        self.rooms[room_token] = room
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

    def _wall(self, now: float) -> int:
        return int(now + self._epoch)


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


def _due(at: float | None, now: float) -> bool:
    return at is not None and at <= now


def _is_participants(frame: Frame) -> bool:
    body = frame.get("event", {})
    return bool(body.get("target") == "participants" and body.get("type") == "update")
