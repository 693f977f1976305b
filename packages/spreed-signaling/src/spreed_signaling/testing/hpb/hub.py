# SPDX-License-Identifier: MIT
"""Sessions of the embedded server, and its rooms: the rules, without I/O.

Each method is one thing that happened; frames for clients go into their
sessions, what the shell has to do beside that comes out of `take_effects`.
Times are monotonic seconds given as `now`; `tick` does what is due at `deadline`.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`,
    "Resuming sessions", "Internal clients"; order of frames as recorded from
    HPB 2.0.2.
"""

from __future__ import annotations

from . import frames
from .effects import Effect, MediaEnded
from .frames import Frame
from .options import VERSION, HpbOptions
from .rooms import Rooms
from .state import Link, Session

__all__ = ["Hub"]


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
        self.rooms = Rooms(options, self._effects, self._wall)

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
        self.rooms.leave(session)
        self._effects.append(MediaEnded(session_id=session.session_id))
        session.ended = True
        self.sessions.pop(session.session_id, None)
        if session.link is not None:
            session.link.session = None
            session.link.close()

    # On the way into a room.

    def displace(self, session: Session, nc_session_id: str) -> None:
        """End an older session with the same Nextcloud session id."""
        for other in list(self.sessions.values()):
            if other is not session and other.nc_session_id == nc_session_id != "":
                # The newer one carries on: Nextcloud must not see a leave.
                other.nc_session_id = ""
                other.send(frames.bye(reason="room_session_reconnected"))
                self.end(other)

    def expect_join(self, session: Session, now: float) -> None:
        """A session without user id has to join a room again."""
        session.join_deadline = now + self._options.join_timeout_s

    # Time and effects.

    def take_effects(self) -> list[Effect]:
        """Return what the shell has to do, once."""
        effects = list(self._effects)
        self._effects.clear()
        return effects

    def deadline(self) -> float | None:
        """Return when `tick` has to be called next."""
        times: list[float | None] = [*self.rooms.deadlines()]
        times += [item.hello_deadline for item in self.links]
        for session in self.sessions.values():
            times += [session.expires_at, session.join_deadline]
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
        self.rooms.tick(now)

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

    def _wall(self, now: float) -> int:
        return int(now + self._epoch)


def _due(at: float | None, now: float) -> bool:
    return at is not None and at <= now


def _is_participants(frame: Frame) -> bool:
    body = frame.get("event", {})
    return bool(body.get("target") == "participants" and body.get("type") == "update")
