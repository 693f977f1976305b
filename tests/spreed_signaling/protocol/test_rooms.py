"""Rooms of a session: joining, leaving, being put out, and what is heard there."""

from __future__ import annotations

from typing import Any

import pytest

from spreed_signaling.errors import RequestTimeout, SessionEnded, UsageError
from spreed_signaling.protocol.events import (
    CallEnded,
    ParticipantLeft,
    RequestErrored,
    RoomJoined,
    RoomLeft,
    RoomUpdated,
    SessionFinished,
    UnhandledMessage,
)
from spreed_signaling.protocol.phases import Phase

from .driver import ROOM, TICKET, Driver, only


class TestJoinRoom:
    """Specification: "Join room"."""

    def test_join_before_the_session_is_open(self) -> None:
        driver = Driver()
        driver.session.join(ROOM, now=driver.now)
        status = driver.session.status()
        assert (status.room_token, status.in_room) == (ROOM, False)
        driver.open()
        driver.server.answer_hello(driver.server.assert_hello_sent())
        driver.server.answer_join(driver.server.assert_join_sent())
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
        driver.server.refuse(driver.server.assert_join_sent(), "no_such_room")
        left = only(driver.events(), RoomLeft)
        assert driver.session.status().error is left.error
        assert driver.session.status().room_token is None
        # The next room works and clears the problem.
        driver.session.join("other", now=driver.now)
        driver.server.answer_join(driver.server.assert_join_sent("other"))
        assert driver.session.status().error is None

    def test_a_refusal_is_no_news_of_the_next_room(self) -> None:
        driver = Driver()
        driver.ready()
        driver.session.join(ROOM, now=driver.now)
        driver.server.refuse(driver.server.assert_join_sent(), "no_such_room")
        driver.session.join("other", now=driver.now)
        assert driver.session.status().error is None
        driver.advance(12.0)
        assert isinstance(driver.session.status().error, RequestTimeout)

    def test_refusal_by_trouble_is_retried(self) -> None:
        driver = Driver()
        driver.ready()
        driver.session.join(ROOM, now=driver.now)
        driver.server.refuse(driver.server.assert_join_sent(), "room_join_failed")
        assert driver.events() == []
        assert driver.session.status().error is not None
        due = driver.session.deadline()
        assert due is not None
        assert 0.3 < due - driver.now < 0.7
        driver.now = due
        driver.session.tick(due)
        driver.server.answer_join(driver.server.assert_join_sent())
        assert driver.session.status().in_room
        assert driver.session.status().error is None

    def test_retry_now_asks_for_the_room_again(self) -> None:
        driver = Driver()
        driver.ready()
        driver.session.join(ROOM, now=driver.now)
        driver.server.refuse(driver.server.assert_join_sent(), "internal_error")
        driver.session.retry_now(driver.now)
        driver.session.tick(driver.now)
        driver.server.assert_join_sent()

    def test_a_pushed_room_is_an_update(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.say("room", {"roomid": ROOM, "properties": {"name": "New"}})
        assert driver.events() == [
            RoomUpdated(room_token=ROOM, properties={"name": "New"})
        ]
        driver.server.say("room", {"roomid": ROOM})
        assert only(driver.events(), RoomUpdated).properties == {}

    def test_news_of_other_rooms_is_ignored(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.say("room", {"roomid": "elsewhere"})
        driver.session.leave()
        driver.events()
        driver.server.say("room", {"roomid": ROOM})
        driver.server.say("room", {"roomid": ""})
        assert driver.events() == []

    def test_leave(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.members("P")
        driver.events()
        driver.session.leave()
        driver.session.leave()
        driver.server.assert_leave_sent()
        events = driver.events()
        assert [type(event) for event in events] == [ParticipantLeft, RoomLeft]
        assert only(events, RoomLeft).error is None
        # News that were under way bring nobody back.
        driver.server.members("P")
        assert driver.session.roster.participants == {}
        only(driver.events(), UnhandledMessage)

    def test_members_of_the_room_before_do_not_follow(self) -> None:
        driver = Driver()
        driver.joined()
        driver.session.leave()
        driver.session.join("other", now=driver.now)
        driver.server.members("ghost")
        driver.server.say("room", {"roomid": ""})
        driver.server.say("room", {"roomid": "other"}, id=driver.sent()[-1]["id"])
        driver.server.members("P")
        assert set(driver.session.roster.participants) == {"P"}

    def test_error_of_a_later_request_is_not_the_joins(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.say("error", {"code": "client_not_found"}, id="77")
        errored = only(driver.events(), RequestErrored)
        assert (errored.request_id, errored.error.code) == ("77", "client_not_found")
        driver.server.say("error", {})
        errored = only(driver.events(), RequestErrored)
        assert (errored.request_id, errored.error.code) == ("", "unknown")
        assert driver.session.status().in_room


class TestRoomEvents:
    """Specification: "Room events" and "Room list events"."""

    def test_deleted_room(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.members("P")
        driver.events()
        driver.server.say("event", {"target": "room", "type": "delete"})
        driver.server.say("room", {"roomid": ""})
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
        driver.server.answer_join(driver.sent()[0])
        driver.server.event(
            "roomlist", "disinvite", {"roomid": ROOM, "reason": "disinvited"}
        )
        events = driver.events()
        assert isinstance(only(events, SessionFinished).error, SessionEnded)
        assert isinstance(only(events, RoomLeft).error, SessionEnded)
        driver.lose()
        assert not driver.session.wants_connection(driver.now + 1e6)

    def test_disinvited_from_another_room(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.event("roomlist", "disinvite", {"roomid": "elsewhere"})
        only(driver.events(), UnhandledMessage)
        assert driver.phase is Phase.READY

    def test_changed_and_left_members(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.members("P", "Q", "S1")
        driver.server.event(
            "room", "change", [{"sessionid": "P", "user": {"displayname": "Pia"}}]
        )
        driver.server.event("room", "leave", ["Q", "nobody"])
        roster = driver.session.roster.participants
        assert [one.display_name for one in roster.values()] == ["Pia"]

    def test_call_ended_for_everybody(self) -> None:
        driver = Driver()
        driver.joined()
        driver.server.update({"sessionId": "P", "inCall": 3})
        driver.server.update(incall=0, all=True)
        assert only(driver.events(), CallEnded).room_token == ROOM
        driver.server.update(incall=3, all=True)
        driver.server.update(all=True)
        assert not any(isinstance(event, CallEnded) for event in driver.events())

    def test_update_of_another_room_is_ignored(self) -> None:
        driver = Driver()
        driver.joined()
        body = {"roomid": "elsewhere", "users": [{"sessionId": "P"}]}
        driver.server.event("participants", "update", body)
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
        driver.server.say("event", event)
        unhandled = only(driver.events(), UnhandledMessage)
        assert unhandled.message.to_envelope()["event"] == event

    @pytest.mark.parametrize("kind", ["join", "change", "leave"])
    def test_room_events_without_body(self, kind: str) -> None:
        driver = Driver()
        driver.joined()
        driver.server.say("event", {"target": "room", "type": kind})
        assert driver.events() == []
