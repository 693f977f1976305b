"""Any sequence of frames, losses and ticks: no exception, no busy loop, no loss."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spreed_signaling.errors import ConnectFailed, ConnectionLost
from spreed_signaling.protocol.auth import Auth
from spreed_signaling.protocol.events import RequestErrored, SessionFinished
from spreed_signaling.protocol.messages import DataMessage, Party
from spreed_signaling.protocol.negotiation import (
    MediaSignal,
    PeerState,
    SendSignal,
    Subscription,
)
from spreed_signaling.protocol.phases import Phase

from .driver import INTERNAL, ROOM, TICKET, Driver

CODES = (
    "already_joined",
    "internal_error",
    "invalid_token",
    "no_such_room",
    "no_such_session",
    "room_join_failed",
    "too_many_requests",
)
IDS = st.none() | st.integers(1, 12).map(str)
SESSIONS = st.sampled_from(["S1", "S2", "P", "Q", ""])
USERS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "sessionId": SESSIONS,
            "inCall": st.sampled_from([0, 1, 3, 7, True, None, "x"]),
            "internal": st.booleans(),
        },
    )
    | st.none(),
    max_size=3,
)
BODIES: dict[str, st.SearchStrategy[Any]] = {
    "welcome": st.just({"features": ["switchto"]}),
    "hello": st.fixed_dictionaries(
        {"sessionid": st.sampled_from(["S1", "S2"]), "resumeid": st.just("R")}
    ),
    "error": st.fixed_dictionaries({"code": st.sampled_from(CODES)}),
    "room": st.fixed_dictionaries({"roomid": st.sampled_from([ROOM, "other", ""])}),
    "bye": st.fixed_dictionaries(
        {}, optional={"reason": st.sampled_from(["session_resumed", "hello_timeout"])}
    ),
    "message": st.just({"data": {"type": "x"}}),
    "event": st.one_of(
        USERS.map(
            lambda users: {
                "target": "participants",
                "type": "update",
                "update": {"roomid": ROOM, "users": users},
            }
        ),
        st.sampled_from(
            [
                {"target": "room", "type": "join", "join": [{"sessionid": "P"}]},
                {"target": "room", "type": "leave", "leave": ["P"]},
                {
                    "target": "roomlist",
                    "type": "disinvite",
                    "disinvite": {"roomid": ROOM},
                },
                {
                    "target": "participants",
                    "type": "update",
                    "update": {"all": True, "incall": 0},
                },
            ]
        ),
    ),
}
FRAMES = st.one_of(
    *(
        st.tuples(st.just("frame"), IDS, st.just(kind), body)
        for kind, body in BODIES.items()
    )
)
STEPS = st.one_of(
    FRAMES,
    # The way in, as often as everything else, or little happens at all.
    st.just(("answer",)),
    st.just(("wait",)),
    st.just(("wait",)),
    st.tuples(st.just("advance"), st.sampled_from([0.0, 0.1, 1.0, 13.0, 40.0])),
    st.just(("lose",)),
    st.just(("join",)),
    st.just(("leave",)),
    st.tuples(st.just("send"), st.sampled_from([0.0, 2.0, 100.0])),
    st.just(("collect",)),
    st.just(("retry",)),
    st.sampled_from([("bye",), ("collect",), ("wait",)]),
)


class Chaos:
    """A shell that keeps its contract while everything else goes wrong."""

    def __init__(self, auth: Auth) -> None:
        self.driver = Driver(auth)
        self.is_open = False
        self.nc_session_id = None if auth.internal else "nc-1"
        self.accepted: list[str] = []
        self.handed_over: list[str] = []

    def step(self, what: str, *arguments: Any) -> None:
        getattr(self, f"_{what}")(*arguments)
        self.settle()

    def settle(self) -> None:
        """What the shell does after every step."""
        driver = self.driver
        if driver.session.close_requested() and self.is_open:
            self._collect()
            self._lose()
        driver.assert_quiet()
        driver.events()

    def _frame(self, message_id: str | None, kind: str, body: Any) -> None:
        frame = {"type": kind, kind: body}
        if message_id is not None:
            frame["id"] = message_id
        self.driver.session.receive(json.dumps(frame), self.driver.now)

    def _answer(self) -> None:
        for frame in self._collect():
            if frame["type"] == "hello":
                self.driver.server.answer_hello(frame)
            elif frame["type"] == "room" and frame["room"]["roomid"]:
                self.driver.server.answer_join(frame)

    def _wait(self) -> None:
        """Sleep until something is due, then do it."""
        driver = self.driver
        if not self.is_open and driver.session.wants_connection(driver.now):
            driver.open()
            self.is_open = True
            return
        due = driver.session.deadline()
        if due is not None and due > driver.now:
            before = (due, driver.phase, len(driver.log))
            driver.now = due
            driver.session.tick(due)
            driver.events()
            # The tick at a deadline makes progress.
            after = (driver.session.deadline(), driver.phase, len(driver.log))
            assert after != before or driver.session.wants_connection(driver.now)

    def _advance(self, seconds: float) -> None:
        self.driver.advance(seconds)

    def _lose(self) -> None:
        driver = self.driver
        if self.is_open:
            driver.session.connection_lost(ConnectionLost("broken"), driver.now)
        elif driver.session.wants_connection(driver.now):
            failed = ConnectFailed("wss://hpb.example", "refused")
            driver.session.connection_lost(failed, driver.now)
        self.is_open = False

    def _join(self) -> None:
        status = self.driver.session.status()
        if status.room_token is None and status.phase not in (
            Phase.CLOSING,
            Phase.FINISHED,
        ):
            self.driver.session.join(
                ROOM, now=self.driver.now, nc_session_id=self.nc_session_id
            )

    def _leave(self) -> None:
        self.driver.session.leave()

    def _send(self, keep_s: float) -> None:
        message = DataMessage(recipient=Party.session("P"), data={"type": "note"})
        now = self.driver.now
        self.accepted.append(self.driver.session.send(message, now=now, keep_s=keep_s))

    def _collect(self) -> list[dict[str, Any]]:
        frames = self.driver.sent()
        self.handed_over += [
            frame["id"] for frame in frames if frame["type"] == "message"
        ]
        return frames

    def _retry(self) -> None:
        self.driver.session.retry_now(self.driver.now)

    def _bye(self) -> None:
        self.driver.session.bye(self.driver.now)

    def assert_nothing_lost(self) -> None:
        """Every message was handed over once, or reported once."""
        reported = [
            event.request_id
            for event in self.driver.log
            if isinstance(event, RequestErrored) and event.error.code == "not_connected"
        ]
        assert sorted(self.handed_over + reported) == sorted(self.accepted)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(st.sampled_from([INTERNAL, TICKET]), st.lists(STEPS, max_size=40))
def test_the_session_survives_anything(auth: Auth, steps: list[Any]) -> None:
    chaos = Chaos(auth)
    for what, *arguments in steps:
        chaos.step(what, *arguments)
    chaos.step("collect")
    chaos.step("bye")
    chaos.step("collect")
    chaos.step("lose")
    assert chaos.driver.phase is Phase.FINISHED
    assert chaos.driver.session.deadline() is None
    finished = [one for one in chaos.driver.log if isinstance(one, SessionFinished)]
    assert len(finished) == 1
    assert chaos.driver.session.roster.participants == {}
    chaos.assert_nothing_lost()


SIDS = st.sampled_from([None, "1", "2", "3"])
SIGNALS = st.builds(
    MediaSignal,
    kind=st.sampled_from(["offer", "candidate", "answer", "endOfCandidates"]),
    sid=SIDS,
    sdp=st.none() | st.just("v=0"),
    candidate=st.none() | st.just({"candidate": "x"}),
    room_type=st.sampled_from(["video", "screen"]),
)
MEDIA_STEPS = st.one_of(
    st.tuples(st.just("signal"), SIGNALS),
    st.tuples(st.just("peer"), st.sampled_from(["1", "2"]), st.sampled_from(PeerState)),
    st.tuples(st.just("error"), st.integers(1, 9).map(str)),
    st.tuples(st.just("answer"), st.sampled_from(["1", "2"])),
    st.sampled_from([("media",), ("tick",), ("due",), ("start",), ("stop",)]),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(st.lists(MEDIA_STEPS, max_size=40))
def test_the_subscription_survives_anything(steps: list[Any]) -> None:
    core, now, count = Subscription("P"), 100.0, 0
    wanted = False
    for what, *arguments in steps:
        actions: list[Any] = []
        now += 0.25
        match what:
            case "signal":
                actions = core.receive(arguments[0], now)
            case "peer":
                core.peer_changed(arguments[0], arguments[1], now)
            case "error":
                core.receive_error(arguments[0], now)
            case "answer":
                actions = core.answer_ready(arguments[0], "v=0")
            case "media":
                core.media_arrived(now)
            case "due":
                now = max(now, core.deadline() or -math.inf)
                actions = core.tick(now)
            case "tick":
                actions = core.tick(now)
            case "start":
                actions, wanted = core.start(now), True
            case "stop":
                actions, wanted = core.stop(), False
        for action in actions:
            if isinstance(action, SendSignal):
                count += 1
                core.sent(str(count))
                # Only what belongs to the peer in use is ever sent.
                assert action.signal.sid in (None, core.sid)
        core.tick(now)
        due = core.deadline()
        # Wanted: there is always a next look at it. Not wanted: never.
        assert (due is not None and due > now) if wanted else due is None
