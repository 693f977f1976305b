"""The session machine against a scripted server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spreed_signaling.errors import (
    BackendNotAllowed,
    ConnectFailed,
    ConnectionLost,
    CredentialsRefused,
    HelloRefused,
    InternalSecretRefused,
    RequestTimeout,
    SessionEnded,
    TooManyAttempts,
    UsageError,
)
from spreed_signaling.protocol.auth import internal_token
from spreed_signaling.protocol.events import (
    CallEnded,
    ControlReceived,
    DataReceived,
    Disconnected,
    ParticipantJoined,
    ParticipantLeft,
    RequestErrored,
    RoomJoined,
    RoomLeft,
    RoomUpdated,
    SessionFinished,
    SessionResumed,
    SessionStarted,
    UnhandledMessage,
)
from spreed_signaling.protocol.messages import (
    Control,
    DataMessage,
    InternalMessage,
    Party,
)
from spreed_signaling.protocol.phases import Phase, SessionOptions

from .driver import INTERNAL, ROOM, TICKET, Driver, only


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


class TestEstablishConnection:
    """Specification: "Establish connection"."""

    def test_wants_a_connection_from_the_start(self) -> None:
        driver = Driver()
        assert driver.session.wants_connection(0.0)
        assert driver.session.wants_connection(-1e9)
        assert driver.session.status().retry_at is None
        assert driver.session.session_id is None

    def test_hello_before_any_welcome(self) -> None:
        driver = Driver()
        driver.open()
        hello = driver.assert_hello_sent()
        assert hello["hello"]["version"] == "1.0"
        assert hello["hello"]["features"] == ["internal-incall"]
        params = hello["hello"]["auth"]["params"]
        assert params["backend"] == "https://nc.example"
        assert params["token"] == internal_token(INTERNAL.secret, params["random"])
        assert driver.phase is Phase.HELLO

    @pytest.mark.parametrize("welcome", ["first", "none", "late"])
    def test_welcome_decides_nothing(self, welcome: str) -> None:
        driver = Driver()
        driver.open()
        hello = driver.assert_hello_sent()
        body = {"version": "2.0.2", "features": ["mcu"]}
        if welcome == "first":
            driver.hear("welcome", body)
        driver.answer_hello(hello)
        started = only(driver.events(), SessionStarted)
        if welcome == "late":
            driver.hear("welcome", {"version": "2.0.2"})
        assert driver.phase is Phase.READY
        assert started.session_id == driver.session.session_id == "S1"
        assert started.server_version == "2.0.2"
        assert "switchto" in driver.session.features
        assert driver.session.deadline() is None

    def test_features_of_the_welcome_count_if_the_hello_has_none(self) -> None:
        driver = Driver()
        driver.open()
        driver.sent()
        driver.hear("welcome", {"version": "9", "features": ["switchto"]})
        driver.hear("hello", {"sessionid": "S1"})
        started = only(driver.events(), SessionStarted)
        assert started.features == {"switchto"}
        assert started.server_version == "unknown"

    def test_answer_without_session_id_is_no_answer(self) -> None:
        driver = Driver()
        driver.open()
        driver.hear("hello", {"version": "1.0"})
        assert driver.phase is Phase.HELLO

    def test_user_announces_a_ticket(self) -> None:
        driver = Driver(TICKET)
        driver.open()
        hello = driver.assert_hello_sent()["hello"]
        assert "features" not in hello
        assert hello["auth"]["params"] == {"userid": "alice", "ticket": "a-ticket"}

    def test_a_second_hello_answer_changes_nothing(self) -> None:
        driver = Driver()
        driver.ready()
        driver.hear("hello", {"sessionid": "S2"})
        assert driver.session.session_id == "S1"
        assert driver.events() == []

    def test_hello_timeout_closes_and_retries(self) -> None:
        driver = Driver()
        driver.open()
        assert driver.session.deadline() == driver.now + 12.0
        driver.advance(11.9)
        assert not driver.session.close_requested()
        driver.advance(0.1)
        assert driver.session.close_requested()
        assert not driver.session.close_expected()
        error = only(driver.events(), Disconnected).error
        assert isinstance(error, RequestTimeout)
        driver.lose()
        # Told once, and the reason is the time-out, not our own closing.
        assert driver.events() == []
        assert driver.session.status().error is error
        driver.assert_next_attempt_in(0.3, 0.7)
        driver.assert_quiet()

    def test_an_answer_after_the_timeout_is_too_late(self) -> None:
        driver = Driver()
        driver.open()
        hello = driver.assert_hello_sent()
        driver.advance(12.0)
        driver.answer_hello(hello)
        assert driver.phase is Phase.HELLO
        assert driver.session.session_id is None

    def test_delays_grow_while_nothing_answers(self) -> None:
        driver = Driver()
        waits = []
        for _ in range(60):
            driver.lose(ConnectFailed("wss://hpb.example", "connection refused"))
            only(driver.events(), Disconnected)
            waits.append(driver.wait_for_attempt())
        assert waits[0] < 0.7 < waits[1] < 1.3
        assert all(1.4 < wait < 2.6 for wait in waits[2:30])
        assert all(11 < wait < 21 for wait in waits[40:])

    def test_a_session_that_breaks_at_once_is_not_retried_in_a_hurry(self) -> None:
        driver = Driver()
        for _ in range(3):
            driver.ready(resume_id="")
            driver.lose()
            driver.wait_for_attempt()
        driver.ready()
        driver.lose()
        driver.assert_next_attempt_in(1.4, 2.6)

    def test_after_a_stable_session_delays_begin_anew(self) -> None:
        driver = Driver()
        for _ in range(5):
            driver.lose(ConnectFailed("wss://hpb.example", "connection refused"))
            driver.wait_for_attempt()
        driver.ready()
        driver.now += 10.0
        driver.lose()
        driver.assert_next_attempt_in(0.3, 0.7)

    def test_retry_now_skips_the_pause(self) -> None:
        driver = Driver()
        driver.lose(ConnectFailed("wss://hpb.example", "connection refused"))
        assert not driver.session.wants_connection(driver.now)
        driver.session.retry_now(driver.now)
        assert driver.session.wants_connection(driver.now)

    def test_opening_twice_is_a_bug_of_the_shell(self) -> None:
        driver = Driver()
        driver.open()
        with pytest.raises(AssertionError, match="connection opened"):
            driver.session.connection_opened(driver.now)


class TestErrorsOfTheHello:
    """Specification: "Establish connection", error codes."""

    def test_wrong_internal_secret_is_retried_rarely(self) -> None:
        driver = Driver()
        driver.open()
        driver.refuse(driver.assert_hello_sent(), "invalid_token")
        assert driver.session.close_requested()
        driver.lose()
        disconnected = only(driver.events(), Disconnected)
        assert isinstance(disconnected.error, InternalSecretRefused)
        assert disconnected.retry_in_s == 240.0
        driver.assert_next_attempt_in(240.0, 240.0)
        assert "internalsecret" in str(driver.session.status().error)

    def test_a_person_may_ask_at_once_after_a_wrong_secret(self) -> None:
        driver = Driver()
        driver.open()
        driver.refuse(driver.assert_hello_sent(), "invalid_token")
        # Also while the shell is still closing the refused socket.
        driver.session.retry_now(driver.now)
        driver.lose()
        driver.ready()
        assert driver.session.status().error is None

    @pytest.mark.parametrize(
        ("code", "kind", "delay"),
        [
            ("invalid_backend", BackendNotAllowed, 240.0),
            ("invalid_client_type", InternalSecretRefused, 240.0),
            ("auth_failed", InternalSecretRefused, 240.0),
            ("too_many_requests", TooManyAttempts, 1800.0),
            ("strange", HelloRefused, 240.0),
        ],
    )
    def test_internal_client_waits_for_somebody_to_repair_it(
        self, code: str, kind: type[HelloRefused], delay: float
    ) -> None:
        driver = Driver()
        driver.open()
        driver.refuse(driver.assert_hello_sent(), code)
        driver.lose()
        disconnected = only(driver.events(), Disconnected)
        assert type(disconnected.error) is kind
        assert disconnected.retry_in_s == delay

    @pytest.mark.parametrize("code", ["internal_error", "session_limit_exceeded"])
    def test_temporary_trouble_is_retried_soon(self, code: str) -> None:
        driver = Driver(TICKET)
        driver.open()
        driver.refuse(driver.assert_hello_sent(), code)
        driver.lose()
        driver.assert_next_attempt_in(0.3, 0.7)

    def test_error_without_id_or_code_answers_the_hello_too(self) -> None:
        driver = Driver()
        driver.open()
        driver.hear("error", {})
        error = only(driver.events(), Disconnected).error
        assert isinstance(error, HelloRefused)
        assert error.code == "unknown"

    @pytest.mark.parametrize(
        "code", ["invalid_ticket", "token_expired", "no_such_user", "invalid_request"]
    )
    def test_refused_user_credentials_are_final(self, code: str) -> None:
        driver = Driver(TICKET)
        driver.session.join(ROOM, now=driver.now, nc_session_id="nc-1")
        driver.open()
        driver.refuse(driver.assert_hello_sent(), code)
        assert driver.session.close_expected()
        events = driver.events()
        finished = only(events, SessionFinished)
        assert isinstance(finished.error, CredentialsRefused)
        assert only(events, RoomLeft).error is finished.error
        driver.lose()
        assert driver.events() == []
        assert not driver.session.wants_connection(driver.now + 1e6)
        assert driver.session.deadline() is None


class TestResumingSessions:
    """Specification: "Resuming sessions"."""

    def test_resume_sends_nothing_again(self) -> None:
        driver = Driver()
        driver.joined()
        driver.members("P")
        driver.events()
        driver.lose()
        assert not driver.session.status().in_room
        driver.now += 5.0
        driver.open()
        driver.answer_hello(driver.assert_resume_sent(), resume_id="R2")
        assert driver.events()[1:] == [SessionResumed(session_id="S1")]
        driver.assert_nothing_sent()
        assert driver.session.status().in_room
        assert set(driver.session.roster.participants) == {"P"}

    def test_the_next_outage_uses_the_newest_resume_id(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lost()
        driver.answer_hello(driver.assert_resume_sent("R1"), resume_id="R2")
        driver.lost()
        driver.assert_resume_sent("R2")

    def test_expired_session_begins_anew_on_the_same_socket(self) -> None:
        driver = Driver()
        driver.joined()
        driver.members("P")
        driver.lost(31.0)
        driver.refuse(driver.assert_resume_sent(), "no_such_session")
        assert not driver.session.close_requested()
        driver.answer_hello(driver.assert_hello_sent(), "S2", "R2")
        events = driver.events()
        assert [type(event) for event in events] == [ParticipantLeft, SessionStarted]
        driver.answer_join(driver.assert_join_sent())
        only(driver.events(), RoomJoined)
        assert driver.session.status().in_room

    def test_one_resume_per_outage(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lost(1.0)
        driver.assert_resume_sent()
        driver.lost(3.0)
        driver.assert_hello_sent()

    def test_sockets_that_do_not_open_spend_no_resume(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lose()
        driver.wait_for_attempt()
        driver.lose(ConnectFailed("wss://hpb.example", "connection refused"))
        driver.wait_for_attempt()
        driver.open()
        driver.assert_resume_sent()

    def test_no_resume_after_the_window(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lost(35.1)
        driver.assert_hello_sent()

    def test_another_session_id_means_a_new_session(self) -> None:
        driver = Driver()
        driver.joined()
        driver.lost()
        driver.answer_hello(driver.assert_resume_sent(), "S2", "R2")
        only(driver.events(), SessionStarted)
        driver.assert_join_sent()

    def test_no_such_session_to_a_full_hello_is_a_refusal(self) -> None:
        driver = Driver()
        driver.open()
        driver.refuse(driver.assert_hello_sent(), "no_such_session")
        driver.assert_nothing_sent()
        only(driver.events(), Disconnected)

    def test_throttled_resume_waits(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lost()
        driver.refuse(driver.assert_resume_sent(), "too_many_requests")
        driver.assert_nothing_sent()
        assert only(driver.events(), Disconnected).retry_in_s == 1800.0

    def test_a_join_whose_answer_was_lost_is_repeated(self) -> None:
        driver = Driver()
        driver.ready()
        driver.session.join(ROOM, now=driver.now)
        driver.assert_join_sent()
        driver.lost()
        driver.answer_hello(driver.assert_resume_sent())
        # Queued by the server while we were away.
        driver.members("P")
        join = driver.assert_join_sent()
        details = {"room": {"roomid": ROOM, "properties": {"name": "Room"}}}
        driver.refuse(join, "already_joined", details)
        events = driver.events()
        assert only(events, RoomJoined).properties == {"name": "Room"}
        assert set(driver.session.roster.participants) == {"P"}
        assert not any(isinstance(event, ParticipantLeft) for event in events)

    def test_leaving_while_away_is_said_after_the_resume(self) -> None:
        driver = Driver()
        driver.joined()
        driver.lose()
        driver.session.leave()
        driver.wait_for_attempt()
        driver.open()
        driver.answer_hello(driver.assert_resume_sent())
        driver.assert_leave_sent()

    def test_joining_again_while_away_leaves_first(self) -> None:
        driver = Driver()
        driver.joined()
        driver.lose()
        driver.session.leave()
        driver.session.join(ROOM, now=driver.now)
        driver.wait_for_attempt()
        driver.open()
        driver.answer_hello(driver.assert_resume_sent())
        rooms = [frame["room"] for frame in driver.sent() if "room" in frame]
        assert rooms == [{"roomid": ""}, {"roomid": ROOM}]

    def test_a_confirmed_leave_is_not_repeated(self) -> None:
        driver = Driver()
        driver.joined()
        driver.session.leave()
        driver.assert_leave_sent()
        driver.hear("room", {"roomid": ""}, id="9")
        driver.lost()
        driver.answer_hello(driver.assert_resume_sent())
        driver.assert_nothing_sent()

    def test_a_new_session_needs_no_leave(self) -> None:
        driver = Driver()
        driver.joined()
        driver.lose()
        driver.session.leave()
        driver.now += 60
        driver.ready("S2", "R2")
        driver.assert_nothing_sent()


class TestJoinRoom:
    """Specification: "Join room"."""

    def test_join_before_the_session_is_open(self) -> None:
        driver = Driver()
        driver.session.join(ROOM, now=driver.now)
        status = driver.session.status()
        assert (status.room_token, status.in_room) == (ROOM, False)
        driver.open()
        driver.answer_hello(driver.assert_hello_sent())
        driver.answer_join(driver.assert_join_sent())
        assert only(driver.events(), RoomJoined).properties == {"name": "Room"}

    def test_user_gives_the_nextcloud_session_and_no_flags(self) -> None:
        driver = Driver(TICKET)
        driver.ready()
        driver.session.join(ROOM, now=driver.now, nc_session_id="nc/1+=")
        [join] = driver.sent()
        assert join["room"] == {"roomid": ROOM, "sessionid": "nc/1+="}

    def test_misuse_raises_at_once(self) -> None:
        driver = Driver()
        with pytest.raises(UsageError, match="without a Nextcloud session"):
            driver.session.join(ROOM, now=0.0, nc_session_id="nc-1")
        driver.session.join(ROOM, now=0.0)
        with pytest.raises(UsageError, match="leave the current room"):
            driver.session.join("other", now=0.0)
        driver.session.bye(0.0)
        with pytest.raises(UsageError, match="over"):
            driver.session.join(ROOM, now=0.0)

    def test_final_refusal_ends_the_membership(self) -> None:
        driver = Driver()
        driver.ready()
        driver.session.join(ROOM, now=driver.now)
        driver.refuse(driver.assert_join_sent(), "no_such_room")
        left = only(driver.events(), RoomLeft)
        assert driver.session.status().error is left.error
        assert driver.session.status().room_token is None
        # The next room works and clears the problem.
        driver.session.join("other", now=driver.now)
        driver.answer_join(driver.assert_join_sent("other"))
        assert driver.session.status().error is None

    def test_refusal_by_trouble_is_retried(self) -> None:
        driver = Driver()
        driver.ready()
        driver.session.join(ROOM, now=driver.now)
        driver.refuse(driver.assert_join_sent(), "room_join_failed")
        assert driver.events() == []
        assert driver.session.status().error is not None
        due = driver.session.deadline()
        assert due is not None
        assert 0.3 < due - driver.now < 0.7
        driver.now = due
        driver.session.tick(due)
        driver.answer_join(driver.assert_join_sent())
        assert driver.session.status().in_room
        assert driver.session.status().error is None

    def test_retry_now_asks_for_the_room_again(self) -> None:
        driver = Driver()
        driver.ready()
        driver.session.join(ROOM, now=driver.now)
        driver.refuse(driver.assert_join_sent(), "internal_error")
        driver.session.retry_now(driver.now)
        driver.session.tick(driver.now)
        driver.assert_join_sent()

    def test_a_pushed_room_is_an_update(self) -> None:
        driver = Driver()
        driver.joined()
        driver.hear("room", {"roomid": ROOM, "properties": {"name": "New"}})
        assert driver.events() == [
            RoomUpdated(room_token=ROOM, properties={"name": "New"})
        ]
        driver.hear("room", {"roomid": ROOM})
        assert only(driver.events(), RoomUpdated).properties == {}

    def test_news_of_other_rooms_is_ignored(self) -> None:
        driver = Driver()
        driver.joined()
        driver.hear("room", {"roomid": "elsewhere"})
        driver.session.leave()
        driver.events()
        driver.hear("room", {"roomid": ROOM})
        driver.hear("room", {"roomid": ""})
        assert driver.events() == []

    def test_leave(self) -> None:
        driver = Driver()
        driver.joined()
        driver.members("P")
        driver.events()
        driver.session.leave()
        driver.session.leave()
        driver.assert_leave_sent()
        events = driver.events()
        assert [type(event) for event in events] == [ParticipantLeft, RoomLeft]
        assert only(events, RoomLeft).error is None
        # News that were under way bring nobody back.
        driver.members("P")
        assert driver.session.roster.participants == {}
        only(driver.events(), UnhandledMessage)

    def test_members_of_the_room_before_do_not_follow(self) -> None:
        driver = Driver()
        driver.joined()
        driver.session.leave()
        driver.session.join("other", now=driver.now)
        driver.members("ghost")
        driver.hear("room", {"roomid": ""})
        driver.hear("room", {"roomid": "other"}, id=driver.sent()[-1]["id"])
        driver.members("P")
        assert set(driver.session.roster.participants) == {"P"}

    def test_error_of_a_later_request_is_not_the_joins(self) -> None:
        driver = Driver()
        driver.joined()
        driver.hear("error", {"code": "client_not_found"}, id="77")
        errored = only(driver.events(), RequestErrored)
        assert (errored.request_id, errored.error.code) == ("77", "client_not_found")
        driver.hear("error", {})
        errored = only(driver.events(), RequestErrored)
        assert (errored.request_id, errored.error.code) == ("", "unknown")
        assert driver.session.status().in_room


class TestRoomEvents:
    """Specification: "Room events" and "Room list events"."""

    def test_deleted_room(self) -> None:
        driver = Driver()
        driver.joined()
        driver.members("P")
        driver.events()
        driver.hear("event", {"target": "room", "type": "delete"})
        driver.hear("room", {"roomid": ""})
        events = driver.events()
        assert [type(event) for event in events] == [
            UnhandledMessage,
            ParticipantLeft,
            RoomLeft,
        ]
        assert driver.phase is Phase.READY
        assert driver.session.status().room_token is None

    def test_disinvited_from_the_current_room(self) -> None:
        driver = Driver(TICKET)
        driver.ready()
        driver.session.join(ROOM, now=driver.now, nc_session_id="nc-1")
        driver.answer_join(driver.sent()[0])
        driver.event("roomlist", "disinvite", {"roomid": ROOM, "reason": "disinvited"})
        events = driver.events()
        assert isinstance(only(events, SessionFinished).error, SessionEnded)
        assert isinstance(only(events, RoomLeft).error, SessionEnded)
        driver.lose()
        assert not driver.session.wants_connection(driver.now + 1e6)

    def test_disinvited_from_another_room(self) -> None:
        driver = Driver()
        driver.joined()
        driver.event("roomlist", "disinvite", {"roomid": "elsewhere"})
        only(driver.events(), UnhandledMessage)
        assert driver.phase is Phase.READY

    def test_changed_and_left_members(self) -> None:
        driver = Driver()
        driver.joined()
        driver.members("P", "Q", "S1")
        driver.event(
            "room", "change", [{"sessionid": "P", "user": {"displayname": "Pia"}}]
        )
        driver.event("room", "leave", ["Q", "nobody"])
        roster = driver.session.roster.participants
        assert [one.display_name for one in roster.values()] == ["Pia"]

    def test_call_ended_for_everybody(self) -> None:
        driver = Driver()
        driver.joined()
        driver.update({"sessionId": "P", "inCall": 3})
        driver.update(incall=0, all=True)
        assert only(driver.events(), CallEnded).room_token == ROOM
        driver.update(incall=3, all=True)
        driver.update(all=True)
        assert not any(isinstance(event, CallEnded) for event in driver.events())

    def test_update_of_another_room_is_ignored(self) -> None:
        driver = Driver()
        driver.joined()
        body = {"roomid": "elsewhere", "users": [{"sessionId": "P"}]}
        driver.event("participants", "update", body)
        assert driver.session.roster.participants == {}

    @pytest.mark.parametrize(
        "event",
        [
            {"target": "room", "type": "switchto", "switchto": {"roomid": "b"}},
            {"target": "participants", "type": "flags", "flags": {"flags": 4}},
            {"target": "participants", "type": "update"},
            {"target": "roomlist", "type": "disinvite"},
            {"target": "novel", "type": "novel"},
            {},
        ],
    )
    def test_what_is_not_interpreted_is_passed_on(self, event: dict[str, Any]) -> None:
        driver = Driver()
        driver.joined()
        driver.hear("event", event)
        unhandled = only(driver.events(), UnhandledMessage)
        assert unhandled.message.to_envelope()["event"] == event

    @pytest.mark.parametrize("kind", ["join", "change", "leave"])
    def test_room_events_without_body(self, kind: str) -> None:
        driver = Driver()
        driver.joined()
        driver.hear("event", {"target": "room", "type": kind})
        assert driver.events() == []


class TestSendingMessages:
    """Specification: "Sending messages between clients"."""

    def test_sent_at_once_when_ready(self) -> None:
        driver = Driver()
        driver.ready()
        request_id = driver.session.send(note(), now=driver.now)
        [frame] = driver.sent()
        assert frame["id"] == request_id
        assert frame["message"]["recipient"]["sessionid"] == "reader"
        assert driver.events() == []

    def test_kept_while_disconnected(self) -> None:
        driver = Driver()
        driver.joined()
        driver.lose()
        first = driver.session.send(note("1"), now=driver.now, keep_s=10)
        second = driver.session.send(note("2"), now=driver.now, keep_s=10)
        driver.now += 5
        driver.open()
        hello = driver.assert_resume_sent()
        driver.answer_hello(hello)
        assert [frame["id"] for frame in driver.sent()] == [first, second]
        assert given_up(driver.events()) == []

    def test_kept_messages_follow_the_join_of_a_new_session(self) -> None:
        driver = Driver()
        driver.session.join(ROOM, now=driver.now)
        driver.session.send(note(), now=driver.now, keep_s=10)
        driver.open()
        driver.answer_hello(driver.assert_hello_sent())
        kinds = [frame["type"] for frame in driver.sent()]
        assert kinds == ["internal", "room", "message"]

    def test_expired_messages_are_reported(self) -> None:
        driver = Driver()
        early = driver.session.send(note(), now=driver.now, keep_s=3)
        late = driver.session.send(note(), now=driver.now, keep_s=9)
        driver.open()
        driver.sent()
        assert driver.session.deadline() == driver.now + 3
        driver.advance(3)
        assert given_up(driver.events()) == [early]
        assert driver.session.deadline() == driver.now + 6
        # Not sent late either, if nobody looked at the clock in between.
        driver.now += 6.5
        driver.hear("hello", {"sessionid": "S1"})
        assert given_up(driver.events()) == [late]
        driver.assert_nothing_sent()

    def test_without_patience_it_fails_at_once(self) -> None:
        driver = Driver()
        request_id = driver.session.send(note(), now=driver.now)
        assert given_up(driver.events()) == [request_id]

    def test_overflow_is_reported(self) -> None:
        driver = Driver(options=SessionOptions(queue_limit=2))
        ids = [driver.session.send(note(), now=driver.now, keep_s=60) for _ in range(4)]
        assert given_up(driver.events()) == ids[:2]

    def test_a_slow_socket_gives_up_the_oldest(self) -> None:
        driver = Driver(options=SessionOptions(send_limit=2))
        driver.ready()
        ids = [driver.session.send(note(), now=driver.now) for _ in range(3)]
        assert given_up(driver.events()) == ids[:1]
        assert [frame["id"] for frame in driver.sent()] == ids[1:]

    def test_what_the_lost_socket_did_not_take_is_kept(self) -> None:
        driver = Driver()
        driver.ready()
        kept = driver.session.send(note(), now=driver.now, keep_s=30)
        lost = driver.session.send(note(), now=driver.now)
        driver.lose()
        driver.session.tick(driver.now)
        assert given_up(driver.events()) == [lost]
        driver.wait_for_attempt()
        driver.open()
        driver.answer_hello(driver.assert_resume_sent())
        assert [frame["id"] for frame in driver.sent()] == [kept]

    def test_a_session_about_to_close_takes_nothing_more(self) -> None:
        driver = Driver()
        driver.ready()
        driver.hear("bye", {"reason": "room_join_timeout"})
        request_id = driver.session.send(note(), now=driver.now, keep_s=30)
        driver.assert_nothing_sent()
        driver.lose()
        driver.wait_for_attempt()
        driver.ready("S2")
        # `ready` took the hello; the message came after its answer.
        assert [frame["id"] for frame in driver.sent()] == [request_id]

    def test_after_the_end_nothing_is_kept(self) -> None:
        driver = Driver()
        waiting = driver.session.send(note(), now=driver.now, keep_s=30)
        driver.session.bye(driver.now)
        refused = driver.session.send(note(), now=driver.now, keep_s=30)
        assert given_up(driver.events()) == [waiting, refused]
        assert driver.session.deadline() is None

    def test_the_callers_id_is_used(self) -> None:
        driver = Driver()
        driver.ready()
        answer = InternalMessage(id="from-the-server", kind="dialout", dialout={})
        assert driver.session.send(answer, now=driver.now) == "from-the-server"
        assert driver.sent()[0]["id"] == "from-the-server"

    @pytest.mark.parametrize("connected", [True, False])
    @pytest.mark.parametrize("data", [{"x": object()}, {"x": "a" * 70_000}])
    def test_what_cannot_be_sent_is_refused_at_once(
        self, data: Any, connected: bool
    ) -> None:
        driver = Driver()
        if connected:
            driver.ready()
        message = DataMessage(recipient=Party.room(), data=data)
        with pytest.raises(UsageError):
            driver.session.send(message, now=driver.now, keep_s=5)

    def test_received_data_and_control(self) -> None:
        driver = Driver()
        driver.ready()
        sender = {"type": "session", "sessionid": "P", "userid": "pia"}
        driver.hear("message", {"sender": sender, "data": {"type": "x"}})
        driver.hear("message", {"data": 3})
        driver.hear("control", {"sender": sender, "data": {"type": "mute"}})
        driver.hear("control", {"sender": None, "data": {"type": "hangup"}})
        assert driver.events() == [
            DataReceived(
                sender_session_id="P", sender_user_id="pia", data={"type": "x"}
            ),
            DataReceived(sender_session_id=None, sender_user_id=None, data=3),
            ControlReceived(sender_session_id="P", data={"type": "mute"}),
            ControlReceived(sender_session_id=None, data={"type": "hangup"}),
        ]

    def test_control_is_sent_like_a_message(self) -> None:
        driver = Driver()
        driver.ready()
        control = Control(recipient=Party.session("P"), data={"type": "mute"})
        driver.session.send(control, now=driver.now)
        assert driver.sent()[0]["control"]["data"] == {"type": "mute"}


class TestGoodbye:
    """Specification: "Releasing sessions"."""

    def test_our_goodbye_waits_for_the_answer(self) -> None:
        driver = Driver()
        driver.joined()
        driver.session.bye(driver.now)
        driver.session.bye(driver.now)
        [bye] = driver.sent()
        assert bye["type"] == "bye"
        assert driver.session.close_expected()
        assert not driver.session.close_requested()
        driver.hear("bye", id=bye["id"])
        assert driver.session.close_requested()
        assert only(driver.events(), SessionFinished).error is None
        driver.lose()
        assert driver.events() == []

    def test_goodbye_without_answer(self) -> None:
        driver = Driver()
        driver.ready()
        driver.session.bye(driver.now)
        assert driver.session.deadline() == driver.now + 1.0
        driver.advance(1.0)
        assert driver.session.close_requested()
        only(driver.events(), SessionFinished)
        driver.assert_quiet()

    def test_goodbye_while_the_socket_breaks(self) -> None:
        driver = Driver()
        driver.ready()
        unsent = driver.session.send(note(), now=driver.now, keep_s=30)
        driver.session.bye(driver.now)
        driver.lose()
        events = driver.events()
        assert given_up(events) == [unsent]
        assert only(events, SessionFinished).error is None
        assert driver.phase is Phase.FINISHED
        assert driver.session.deadline() is None

    @pytest.mark.parametrize("opened", [True, False])
    def test_goodbye_before_the_session_is_open(self, opened: bool) -> None:
        driver = Driver()
        if opened:
            driver.open()
        driver.session.bye(driver.now)
        assert driver.phase is Phase.FINISHED
        assert driver.session.close_requested()
        only(driver.events(), SessionFinished)
        assert driver.session.deadline() is None
        assert not driver.session.wants_connection(driver.now + 1e6)
        driver.assert_nothing_sent()

    @pytest.mark.parametrize("reason", ["session_resumed", "room_session_reconnected"])
    def test_another_connection_took_over(self, reason: str) -> None:
        driver = Driver()
        driver.joined()
        driver.hear("bye", {"reason": reason})
        error = only(driver.events(), SessionFinished).error
        assert isinstance(error, SessionEnded)
        assert error.reason == reason
        driver.lose()
        assert not driver.session.wants_connection(driver.now + 1e6)

    @pytest.mark.parametrize("reason", ["hello_timeout", "room_join_timeout", "novel"])
    def test_other_reasons_begin_a_new_session(self, reason: str) -> None:
        driver = Driver()
        driver.joined()
        driver.hear("bye", {"reason": reason})
        assert driver.session.close_requested()
        error = only(driver.events(), Disconnected).error
        assert isinstance(error, ConnectionLost)
        assert reason in str(error)
        driver.lose()
        assert driver.events() == []
        driver.wait_for_attempt()
        driver.open()
        driver.answer_hello(driver.assert_hello_sent(), "S2")
        driver.assert_join_sent()

    def test_goodbye_of_the_server_during_the_hello(self) -> None:
        driver = Driver()
        driver.open()
        driver.hear("bye", {"reason": "hello_timeout"})
        driver.lose()
        only(driver.events(), Disconnected)
        driver.wait_for_attempt()
        driver.ready()


class TestOddFrames:
    """One odd frame must never cost the session."""

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nonsense",
            "[]",
            "[" * 100_000,
            '{"type":7}',
            '{"type":"hello","hello":[]}',
            '{"type":"room","room":{"roomid":3,"properties":[]}}',
            '{"type":"event","event":{"target":"participants","type":"update",'
            '"update":{"users":[null,3,{"sessionId":4},{"inCall":[]}],"all":1}}}',
            '{"type":"event","event":{"target":"room","type":"join","join":[{},null]}}',
            '{"type":"event","event":{"target":"room","type":"leave","leave":[null]}}',
            '{"type":"error","error":"no"}',
            b"\xff\xfe",
        ],
    )
    @pytest.mark.parametrize("in_room", [True, False])
    def test_never_raise(self, text: str | bytes, in_room: bool) -> None:
        driver = Driver()
        if in_room:
            driver.joined()
        else:
            driver.ready()
        driver.session.receive(text, driver.now)
        assert driver.phase is Phase.READY
        assert driver.session.status().in_room is in_room

    def test_good_entries_beside_odd_ones_count(self) -> None:
        driver = Driver()
        driver.joined()
        driver.update(None, {"sessionId": "P", "inCall": 3}, "odd")
        driver.event("room", "join", [None, {"sessionid": "Q"}])
        joined = [
            event.participant.session_id
            for event in driver.events()
            if isinstance(event, ParticipantJoined)
        ]
        assert joined == ["P", "Q"]

    def test_unknown_messages_are_passed_on(self) -> None:
        driver = Driver()
        driver.ready()
        frame = {"type": "novelty", "novelty": {"a": 1}}
        driver.session.receive(json.dumps(frame), driver.now)
        unhandled = only(driver.events(), UnhandledMessage)
        assert unhandled.message.to_envelope() == frame

    def test_frames_without_a_socket_are_ignored(self) -> None:
        driver = Driver()
        driver.hear("hello", {"sessionid": "S1"})
        assert driver.phase is Phase.DISCONNECTED
        driver.session.bye(driver.now)
        driver.events()
        driver.hear("bye", {"reason": "session_resumed"})
        assert driver.events() == []
