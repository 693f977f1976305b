"""Resuming a session on a new socket."""

from __future__ import annotations

from spreed_signaling.errors import ConnectFailed
from spreed_signaling.protocol.events import (
    Disconnected,
    ParticipantLeft,
    RoomJoined,
    SessionResumed,
    SessionStarted,
)

from .driver import ROOM, Driver, only


class TestResumingSessions:
    """Specification: "Resuming sessions"."""

    def test_resume_sends_nothing_again(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.members("P")
        driver.events()
        driver.lose()
        assert not driver.session.status().in_room
        driver.now += 5.0
        driver.open()
        driver.server.answer_hello(driver.server.assert_resume_sent(), resume_id="R2")
        assert driver.events()[1:] == [SessionResumed(session_id="S1")]
        driver.server.assert_nothing_sent()
        assert driver.session.status().in_room
        assert set(driver.session.roster.participants) == {"P"}

    def test_the_next_outage_uses_the_newest_resume_id(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lost()
        driver.server.answer_hello(
            driver.server.assert_resume_sent("R1"), resume_id="R2"
        )
        driver.lost()
        driver.server.assert_resume_sent("R2")

    def test_expired_session_begins_anew_on_the_same_socket(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.members("P")
        driver.lost(31.0)
        driver.server.refuse(driver.server.assert_resume_sent(), "no_such_session")
        assert not driver.session.close_requested()
        driver.server.answer_hello(driver.server.assert_hello_sent(), "S2", "R2")
        events = driver.events()
        assert [type(event) for event in events] == [ParticipantLeft, SessionStarted]
        driver.server.answer_join(driver.server.assert_join_sent())
        only(driver.events(), RoomJoined)
        assert driver.session.status().in_room

    def test_one_resume_per_outage(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lost(1.0)
        driver.server.assert_resume_sent()
        driver.lost(3.0)
        driver.server.assert_hello_sent()

    def test_sockets_that_do_not_open_spend_no_resume(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lose()
        driver.wait_for_attempt()
        driver.lose(ConnectFailed("wss://hpb.example", "connection refused"))
        driver.wait_for_attempt()
        driver.open()
        driver.server.assert_resume_sent()

    def test_no_resume_after_the_window(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lost(35.1)
        driver.server.assert_hello_sent()

    def test_another_session_id_means_a_new_session(self) -> None:
        driver = Driver()
        driver.joined()
        driver.lost()
        driver.server.answer_hello(driver.server.assert_resume_sent(), "S2", "R2")
        only(driver.events(), SessionStarted)
        driver.server.assert_join_sent()

    def test_no_such_session_to_a_full_hello_is_a_refusal(self) -> None:
        driver = Driver()
        driver.open()
        driver.server.refuse(driver.server.assert_hello_sent(), "no_such_session")
        driver.server.assert_nothing_sent()
        only(driver.events(), Disconnected)

    def test_throttled_resume_waits(self) -> None:
        driver = Driver()
        driver.ready()
        driver.lost()
        driver.server.refuse(driver.server.assert_resume_sent(), "too_many_requests")
        driver.server.assert_nothing_sent()
        assert only(driver.events(), Disconnected).retry_in_s == 1800.0

    def test_a_join_whose_answer_was_lost_is_repeated(self) -> None:
        driver = Driver()
        driver.ready()
        driver.session.join(ROOM, now=driver.now)
        driver.server.assert_join_sent()
        driver.lost()
        driver.server.answer_hello(driver.server.assert_resume_sent())
        # Queued by the server while we were away.
        driver.server.members("P")
        join = driver.server.assert_join_sent()
        details = {"room": {"roomid": ROOM, "properties": {"name": "Room"}}}
        driver.server.refuse(join, "already_joined", details)
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
        driver.server.answer_hello(driver.server.assert_resume_sent())
        driver.server.assert_leave_sent()

    def test_joining_again_while_away_leaves_first(self) -> None:
        driver = Driver()
        driver.joined()
        driver.lose()
        driver.session.leave()
        driver.session.join(ROOM, now=driver.now)
        driver.wait_for_attempt()
        driver.open()
        driver.server.answer_hello(driver.server.assert_resume_sent())
        rooms = [frame["room"] for frame in driver.sent() if "room" in frame]
        assert rooms == [{"roomid": ""}, {"roomid": ROOM}]

    def test_a_confirmed_leave_is_not_repeated(self) -> None:
        driver = Driver()
        driver.joined()
        driver.session.leave()
        driver.server.assert_leave_sent()
        driver.server.say("room", {"roomid": ""}, id="9")
        driver.lost()
        driver.server.answer_hello(driver.server.assert_resume_sent())
        driver.server.assert_nothing_sent()

    def test_a_new_session_needs_no_leave(self) -> None:
        driver = Driver()
        driver.joined()
        driver.lose()
        driver.session.leave()
        driver.now += 60
        driver.ready("S2", "R2")
        driver.server.assert_nothing_sent()
