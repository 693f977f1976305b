"""Messages of the application through a session."""

from __future__ import annotations

from typing import Any

import pytest

from spreed_signaling.errors import UsageError
from spreed_signaling.protocol.events import ControlReceived, DataReceived
from spreed_signaling.protocol.messages import (
    Control,
    DataMessage,
    InternalMessage,
    Party,
)
from spreed_signaling.protocol.phases import SessionOptions

from .driver import ROOM, Driver, given_up, note


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
        hello = driver.server.assert_resume_sent()
        driver.server.answer_hello(hello)
        assert [frame["id"] for frame in driver.sent()] == [first, second]
        assert given_up(driver.events()) == []

    def test_kept_messages_follow_the_join_of_a_new_session(self) -> None:
        driver = Driver()
        driver.session.join(ROOM, now=driver.now)
        driver.session.send(note(), now=driver.now, keep_s=10)
        driver.open()
        driver.server.answer_hello(driver.server.assert_hello_sent())
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
        driver.server.say("hello", {"sessionid": "S1"})
        assert given_up(driver.events()) == [late]
        driver.server.assert_nothing_sent()

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
        driver.server.answer_hello(driver.server.assert_resume_sent())
        assert [frame["id"] for frame in driver.sent()] == [kept]

    def test_a_session_about_to_close_takes_nothing_more(self) -> None:
        driver = Driver()
        driver.ready()
        driver.server.say("bye", {"reason": "room_join_timeout"})
        request_id = driver.session.send(note(), now=driver.now, keep_s=30)
        driver.server.assert_nothing_sent()
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
        driver.server.say("message", {"sender": sender, "data": {"type": "x"}})
        driver.server.say("message", {"data": 3})
        driver.server.say("control", {"sender": sender, "data": {"type": "mute"}})
        driver.server.say("control", {"sender": None, "data": {"type": "hangup"}})
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
