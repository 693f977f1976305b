"""Being in a room: requests, answers, retries."""

from __future__ import annotations

import json
import random

import pytest

from spreed_signaling.errors import RequestTimeout, RoomRefused
from spreed_signaling.protocol.events import RoomJoined, RoomLeft
from spreed_signaling.protocol.membership import Membership
from spreed_signaling.protocol.messages import ErrorMessage
from spreed_signaling.protocol.outbox import Outbox
from spreed_signaling.types import InCallFlags

NEW = frozenset({"switchto"})
OLD: frozenset[str] = frozenset()


class Case:
    """A membership with its outbox."""

    def __init__(self, in_call: InCallFlags | None = InCallFlags.IN_CALL) -> None:
        self.outbox = Outbox()
        self.member = Membership("tok", None, in_call, 12.0, random.Random(3))

    def request(self, features: frozenset[str] = NEW, now: float = 0.0) -> str:
        self.member.request(self.outbox, features, now)
        return self.assert_requested()

    def tick(self, now: float) -> None:
        self.member.tick(self.outbox, NEW, now)

    def assert_requested(self) -> str:
        *_, room = (json.loads(text) for text in self.outbox.collect())
        assert room["room"] == {"roomid": "tok"}
        return str(room["id"])

    def assert_nothing_requested(self) -> None:
        assert self.outbox.collect() == []


def error(request_id: str, code: str, details: object = None) -> ErrorMessage:
    return ErrorMessage(id=request_id, code=code, details=details)


class TestJoin:
    """Specification: "Join room"."""

    @pytest.mark.parametrize(
        ("in_call", "features", "kinds"),
        [
            (InCallFlags.IN_CALL, NEW, ["internal", "room"]),
            # The message does not exist on servers before 1.1.
            (InCallFlags.IN_CALL, OLD, ["room"]),
            (None, NEW, ["room"]),
        ],
    )
    def test_call_flags_come_first(
        self, in_call: InCallFlags | None, features: frozenset[str], kinds: list[str]
    ) -> None:
        case = Case(in_call)
        case.member.request(case.outbox, features, 0.0)
        assert [json.loads(text)["type"] for text in case.outbox.collect()] == kinds

    def test_accepted(self) -> None:
        case = Case()
        request_id = case.request()
        assert case.member.is_answered_by(request_id)
        assert not case.member.is_answered_by(None)
        assert not case.member.is_answered_by("other")
        assert case.member.accept(None) == [RoomJoined(room_token="tok", properties={})]
        assert case.member.joined
        assert case.member.deadline() is None

    @pytest.mark.parametrize(
        ("details", "properties"),
        [
            ({"room": {"properties": {"name": "R"}}}, {"name": "R"}),
            ({"room": {"properties": 3}}, {}),
            ({"room": 3}, {}),
            ("text", {}),
            (None, {}),
        ],
    )
    def test_already_joined_is_success(
        self, details: object, properties: dict[str, object]
    ) -> None:
        case = Case()
        refusal = error(case.request(), "already_joined", details)
        [joined] = case.member.refuse(refusal, 1.0)
        assert joined == RoomJoined(room_token="tok", properties=properties)
        assert case.member.joined

    def test_answers_after_success_change_nothing(self) -> None:
        case = Case()
        first = case.request()
        second = case.request()
        assert case.member.is_answered_by(first)
        case.member.accept({})
        assert case.member.is_answered_by(second)
        assert case.member.refuse(error(second, "already_joined"), 1.0) == []


class TestRetry:
    """What is tried again, and when."""

    def test_no_answer(self) -> None:
        case = Case()
        case.request(now=100.0)
        assert case.member.deadline() == 112.0
        case.tick(111.9)
        assert case.member.error is None
        case.tick(112.0)
        assert isinstance(case.member.error, RequestTimeout)
        case.assert_nothing_requested()
        due = case.member.deadline()
        assert due is not None
        assert 112.3 < due < 112.7
        case.tick(due)
        case.assert_requested()

    def test_pauses_grow(self) -> None:
        case = Case()
        now, pauses = 0.0, []
        request_id = case.request(now=now)
        for _ in range(40):
            assert case.member.refuse(error(request_id, "internal_error"), now) == []
            due = case.member.deadline()
            assert due is not None
            pauses.append(due - now)
            now = due
            case.tick(now)
            request_id = case.assert_requested()
        assert pauses[0] < 0.7
        assert max(pauses) < 20.1
        assert pauses[-1] > 11

    def test_late_refusal_of_a_request_given_up(self) -> None:
        case = Case()
        first = case.request(now=0.0)
        case.tick(12.0)
        case.member.retry_now(12.1)
        case.tick(12.1)
        case.assert_requested()
        assert case.member.refuse(error(first, "internal_error"), 12.2) == []
        # The second request is still waited for.
        assert case.member.deadline() == 24.1

    def test_final_refusal(self) -> None:
        case = Case()
        [left] = case.member.refuse(error(case.request(), "duplicate_session"), 0.0)
        assert isinstance(left, RoomLeft)
        assert isinstance(left.error, RoomRefused)
        assert left.error.code == "duplicate_session"

    def test_refusal_without_code(self) -> None:
        case = Case()
        refusal = ErrorMessage(id=case.request())
        [left] = case.member.refuse(refusal, 0.0)
        assert isinstance(left, RoomLeft)
        assert "unknown" in str(left.error)

    def test_retry_now_means_nothing_without_a_plan(self) -> None:
        case = Case()
        case.request(now=0.0)
        case.member.retry_now(1.0)
        assert case.member.deadline() == 12.0

    def test_lost_connection_cancels_everything(self) -> None:
        case = Case()
        request_id = case.request()
        case.member.connection_lost()
        assert case.member.deadline() is None
        assert not case.member.is_answered_by(request_id)
        case.tick(1e6)
        case.assert_nothing_requested()
