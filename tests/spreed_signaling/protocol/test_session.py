"""The end of a session, and what must not end it."""

from __future__ import annotations

import json

import pytest

from spreed_signaling.errors import ConnectionLost, SessionEnded
from spreed_signaling.protocol.events import (
    Disconnected,
    ParticipantJoined,
    SessionFinished,
    UnhandledMessage,
)
from spreed_signaling.protocol.phases import Phase

from .driver import Driver, given_up, note, only


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
        driver.server.say("bye", id=bye["id"])
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
        driver.server.assert_nothing_sent()

    @pytest.mark.parametrize("reason", ["session_resumed", "room_session_reconnected"])
    def test_another_connection_took_over(self, reason: str) -> None:
        driver = Driver()
        driver.joined()
        driver.server.say("bye", {"reason": reason})
        error = only(driver.events(), SessionFinished).error
        assert isinstance(error, SessionEnded)
        assert error.reason == reason
        driver.lose()
        assert not driver.session.wants_connection(driver.now + 1e6)

    @pytest.mark.parametrize("reason", ["hello_timeout", "room_join_timeout", "novel"])
    def test_other_reasons_begin_a_new_session(self, reason: str) -> None:
        driver = Driver()
        driver.joined()
        driver.server.say("bye", {"reason": reason})
        assert driver.session.close_requested()
        error = only(driver.events(), Disconnected).error
        assert isinstance(error, ConnectionLost)
        assert reason in str(error)
        driver.lose()
        assert driver.events() == []
        driver.wait_for_attempt()
        driver.open()
        driver.server.answer_hello(driver.server.assert_hello_sent(), "S2")
        driver.server.assert_join_sent()

    def test_goodbye_of_the_server_during_the_hello(self) -> None:
        driver = Driver()
        driver.open()
        driver.server.say("bye", {"reason": "hello_timeout"})
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
        driver.server.update(None, {"sessionId": "P", "inCall": 3}, "odd")
        driver.server.event("room", "join", [None, {"sessionid": "Q"}])
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
        driver.server.say("hello", {"sessionid": "S1"})
        assert driver.phase is Phase.DISCONNECTED
        driver.session.bye(driver.now)
        driver.events()
        driver.server.say("bye", {"reason": "session_resumed"})
        assert driver.events() == []
