# SPDX-License-Identifier: MIT
"""What the embedded server remembers: sockets, sessions, rooms. No I/O.

Nothing here waits or reads a clock: frames go into queues that the shell
drains, times come in as `now` (monotonic seconds).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field

from . import frames
from .frames import Frame

__all__ = ["Link", "ResumeIds", "Room", "Session"]


def _new_id() -> str:
    # As long as the real server's: clients must not assume short ids.
    return secrets.token_urlsafe(96)


class ResumeIds:
    """Makes resume ids that a later instance with the same key still recognises.

    An id that was never issued counts as an attack, an expired one does not:
    the real server tells them apart by its hash key, which survives restarts.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def make(self) -> str:
        """Return a fresh id."""
        random = secrets.token_urlsafe(63)
        return f"{random}{self._sign(random)}="

    def is_ours(self, resume_id: str) -> bool:
        """Return whether an id was issued with this key."""
        random, signature = resume_id[:84], resume_id[84:-1]
        return hmac.compare_digest(signature.encode(), self._sign(random).encode())

    def _sign(self, random: str) -> str:
        return hmac.new(self._key, random.encode(), hashlib.sha256).hexdigest()


@define(eq=False)
class Link:
    """One socket: the frames to send, and whether to close it after them."""

    address: str
    """The client's IP address, for the throttle."""
    limit: int
    """Frames that may wait; more cut the socket, and the session can resume."""
    wake: Callable[[], None] = field(default=lambda: None, repr=False)
    """Tells the shell that there is something to do."""
    outgoing: deque[str] = field(factory=deque, repr=False)
    closing: bool = False
    cut: bool = False
    """Close without a close frame."""
    hello_deadline: float | None = None
    session: Session | None = field(default=None, repr=False)

    def send(self, frame: Frame) -> None:
        """Queue a frame."""
        if self.closing or self.cut:
            return
        if len(self.outgoing) >= self.limit:
            self.cut = True
        else:
            self.outgoing.append(json.dumps(frame, separators=(",", ":")))
        self.wake()

    def close(self) -> None:
        """Close the socket after what is queued."""
        self.closing = True
        self.wake()


@define(eq=False)
class Session:
    """One client, across sockets."""

    version: str
    user_id: str
    user: Frame | None = field(repr=False)
    features: tuple[str, ...]
    internal: bool
    backend_url: str
    """Where requests to Nextcloud about this session go: the full URL."""
    resume_id: str = field(repr=False)
    session_id: str = field(factory=_new_id)
    link: Link | None = field(default=None, repr=False)
    queue: list[Frame] = field(factory=list, repr=False)
    """Frames that came while there was no socket."""
    expires_at: float | None = None
    join_deadline: float | None = None
    room: Room | None = field(default=None, repr=False)
    nc_session_id: str = ""
    """Nextcloud's session id, or what the client gave in its place."""
    room_data: Frame | None = field(default=None, repr=False)
    permissions: frozenset[str] | None = None
    """None: Nextcloud sent no list, which allows everything."""
    in_call: int = 0
    """Call flags that an internal client reports itself."""
    in_call_since: int = 0
    ended: bool = False

    def send(self, frame: Frame) -> None:
        """Send a frame, or keep it for a resume."""
        if self.ended:
            return
        if self.link is not None:
            self.link.send(frame)
        else:
            self.queue.append(frame)

    def may(self, *permissions: str) -> bool:
        """Return whether the session has one of these permissions."""
        if self.internal or self.permissions is None:
            return True
        return any(name in self.permissions for name in permissions)

    def name(self) -> Frame:
        """Return the `sender` object of relayed messages."""
        sender: Frame = {"type": "session", "sessionid": self.session_id}
        if self.user_id:
            sender["userid"] = self.user_id
        return sender

    def entry(self) -> Frame:
        """Return this session's entry in join and change events."""
        room_user = (self.room_data or {}).get("userid")
        entry: Frame = {
            "sessionid": self.session_id,
            "userid": self.user_id or (room_user if isinstance(room_user, str) else ""),
        }
        if self.features:
            entry["features"] = list(self.features)
        if self.user is not None:
            entry["user"] = self.user
        if self.nc_session_id:
            entry["roomsessionid"] = self.nc_session_id
        return entry


@define(eq=False)
class Room:
    """One room with its sessions, call state and shared data."""

    token: str
    backend_url: str
    properties: Frame | None = field(default=None, repr=False)
    sessions: dict[str, Session] = field(factory=dict)
    users: list[Frame] = field(factory=list, repr=False)
    """The participants as Nextcloud last listed them, with our session ids."""
    in_call: set[str] = field(factory=set)
    transient: dict[str, Any] = field(factory=dict, repr=False)
    transient_expiry: dict[str, float] = field(factory=dict, repr=False)
    ping_at: float = 0.0

    def send(self, frame: Frame, *, but: Session | None = None) -> None:
        """Send a frame to everybody, except to one session."""
        for session in list(self.sessions.values()):
            if session is not but:
                session.send(frame)

    def by_nc_session(self, nc_session_id: str) -> Session | None:
        """Return the session with this Nextcloud session id."""
        for session in self.sessions.values():
            if session.nc_session_id == nc_session_id:
                return session
        return None

    def is_in_call(self, session: Session) -> bool:
        """Return whether a session is in the call."""
        if session.internal:
            return bool(session.in_call & 1)
        return session.session_id in self.in_call

    def send_users(self, *, only: Session | None = None) -> None:
        """Send the list of participants, internal clients included.

        An empty list is not sent, measured.
        """
        users = [dict(item) for item in self.users]
        for session in self.sessions.values():
            if session.internal:
                entry: Frame = {
                    "inCall": session.in_call,
                    "sessionId": session.session_id,
                    "lastPing": session.in_call_since,
                    "internal": True,
                }
                if session.features:
                    entry["features"] = list(session.features)
                users.append(entry)
        frame = frames.participants(self.token, users)
        if users and only is not None:
            only.send(frame)
        elif users:
            self.send(frame)
