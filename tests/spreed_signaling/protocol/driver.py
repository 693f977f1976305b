"""A session with a scripted server at its other end; time moves by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, TypeVar

from spreed_signaling.errors import ConnectionLost, SignalingError
from spreed_signaling.protocol.auth import Auth, InternalAuth, TicketAuth
from spreed_signaling.protocol.events import RequestErrored, SessionEvent
from spreed_signaling.protocol.messages import DataMessage, Party
from spreed_signaling.protocol.phases import Phase, SessionOptions
from spreed_signaling.protocol.session import SignalingSession

FEATURES = ("mcu", "switchto", "virtual-sessions")
INTERNAL = InternalAuth(secret="the-internal-secret", backend_url="https://nc.example")
TICKET = TicketAuth(
    url="https://nc.example/ocs/v2.php/apps/spreed/api/v3/signaling/backend",
    user_id="alice",
    ticket="a-ticket",
)
ROOM = "tok3n"

EventType = TypeVar("EventType")


def only(events: Sequence[SessionEvent], kind: type[EventType]) -> EventType:
    """The one event of this kind."""
    found = [event for event in events if isinstance(event, kind)]
    assert len(found) == 1, events
    return found[0]


def note(text: str = "hello") -> DataMessage:
    """An application's message."""
    data = {"type": "note", "text": text}
    return DataMessage(recipient=Party.session("reader"), data=data)


def given_up(events: list[Any]) -> list[str]:
    """Ids of messages reported as not sent."""
    return [
        event.request_id
        for event in events
        if isinstance(event, RequestErrored) and event.error.code == "not_connected"
    ]


class Server:
    """What the server says, and what must have been sent to it."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def say(self, kind: str, body: Any = None, **envelope: Any) -> None:
        frame = {**envelope, "type": kind}
        if body is not None:
            frame[kind] = body
        driver = self._driver
        driver.session.receive(json.dumps(frame), driver.now)

    def answer_hello(
        self, hello: dict[str, Any], session_id: str = "S1", resume_id: str = "R1"
    ) -> None:
        body = {
            "version": "1.0",
            "sessionid": session_id,
            "resumeid": resume_id,
            "server": {"version": "2.0.2", "features": list(FEATURES)},
        }
        self.say("hello", body, id=hello["id"])

    def refuse(self, request: dict[str, Any], code: str, details: Any = None) -> None:
        body = {"code": code, "message": "no", "details": details}
        self.say("error", body, id=request["id"])

    def answer_join(self, join: dict[str, Any]) -> None:
        room = {"roomid": join["room"]["roomid"], "properties": {"name": "Room"}}
        self.say("room", room, id=join["id"])

    def event(self, target: str, kind: str, body: Any) -> None:
        self.say("event", {"target": target, "type": kind, kind: body})

    def members(self, *session_ids: str) -> None:
        self.event("room", "join", [{"sessionid": one} for one in session_ids])

    def update(self, *users: Any, **body: Any) -> None:
        inner = {"roomid": ROOM, **body}
        if users:
            inner["users"] = list(users)
        self.event("participants", "update", inner)

    # What must have been sent.

    def assert_hello_sent(self) -> dict[str, Any]:
        frames = self._driver.sent()
        assert [frame["type"] for frame in frames] == ["hello"], frames
        assert "auth" in frames[0]["hello"]
        assert "resumeid" not in frames[0]["hello"]
        return frames[0]

    def assert_resume_sent(self, resume_id: str = "R1") -> dict[str, Any]:
        frames = self._driver.sent()
        assert [frame["type"] for frame in frames] == ["hello"], frames
        assert frames[0]["hello"] == {"version": "1.0", "resumeid": resume_id}
        return frames[0]

    def assert_join_sent(self, room_token: str = ROOM) -> dict[str, Any]:
        """An internal client's way in: its call flags, then the room."""
        frames = self._driver.sent()
        assert [frame["type"] for frame in frames] == ["internal", "room"], frames
        assert frames[0]["internal"] == {"type": "incall", "incall": {"incall": 1}}
        assert frames[1]["room"] == {"roomid": room_token}
        return frames[1]

    def assert_leave_sent(self) -> None:
        frames = self._driver.sent()
        assert [frame.get("room") for frame in frames] == [{"roomid": ""}], frames

    def assert_nothing_sent(self) -> None:
        assert self._driver.sent() == []


class Driver:
    """Plays the shell of one session, whose socket ends at `server`."""

    def __init__(
        self, auth: Auth = INTERNAL, options: SessionOptions | None = None
    ) -> None:
        self.now = 1000.0
        self.session = SignalingSession(auth, options, random.Random(7))
        self.server = Server(self)
        self.log: list[SessionEvent] = []

    # The shell.

    def open(self) -> None:
        assert self.session.wants_connection(self.now)
        self.session.connection_opened(self.now)

    def lose(self, error: SignalingError | None = None) -> None:
        gone = ConnectionLost("connection broken", 1006)
        self.session.connection_lost(error or gone, self.now)

    def wait_for_attempt(self) -> float:
        """Let time pass until the next attempt; returns how long it took."""
        due = self.session.status().retry_at
        assert due is not None
        waited, self.now = due - self.now, max(self.now, due)
        return waited

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.session.messages_to_send()]

    def events(self) -> list[SessionEvent]:
        new = self.session.events()
        self.log += new
        return new

    # What the session says of itself.

    @property
    def phase(self) -> Phase:
        return self.session.status().phase

    def assert_next_attempt_in(self, least: float, most: float) -> None:
        retry_at = self.session.status().retry_at
        assert retry_at is not None
        assert least <= retry_at - self.now <= most
        assert not self.session.wants_connection(self.now)
        assert self.session.wants_connection(retry_at)

    def assert_quiet(self) -> None:
        """No busy loop: after a tick nothing is due, or the shell has to act."""
        self.session.tick(self.now)
        deadline = self.session.deadline()
        assert (
            deadline is None
            or deadline > self.now
            or self.session.wants_connection(self.now)
            or self.session.close_requested()
        )

    # Common beginnings.

    def ready(self, session_id: str = "S1", resume_id: str = "R1") -> None:
        self.open()
        self.server.answer_hello(self.server.assert_hello_sent(), session_id, resume_id)
        self.events()

    def joined(self) -> None:
        self.ready()
        self.session.join(ROOM, now=self.now)
        self.server.answer_join(self.server.assert_join_sent())
        self.events()
        assert self.session.status().in_room

    def lost(self, for_s: float = 5.0) -> None:
        """Lose the connection and come back with a new socket."""
        self.lose()
        self.events()
        self.now += for_s
        self.open()
