"""Request ids and waiting messages."""

from __future__ import annotations

import json

import pytest

from spreed_signaling.errors import UsageError
from spreed_signaling.protocol.messages import Bye, DataMessage
from spreed_signaling.protocol.outbox import MAX_FRAME_BYTES, Outbox


def data(value: object) -> DataMessage:
    return DataMessage(data=value)


def ids(frames: list[str]) -> list[str]:
    return [json.loads(frame)["id"] for frame in frames]


class TestRequestIds:
    """Specification: "Request/response"."""

    def test_every_message_gets_its_own(self) -> None:
        outbox = Outbox()
        posted = [outbox.post(Bye()), outbox.submit(data(1), 0.0)[0]]
        posted.append(outbox.keep(data(2), 0.0)[0])
        assert len(set(posted)) == 3
        assert ids(outbox.collect()) == posted[:2]

    def test_a_given_id_stays(self) -> None:
        assert Outbox().post(Bye(id="mine")) == "mine"

    def test_frames_are_collected_once(self) -> None:
        outbox = Outbox()
        outbox.post(Bye())
        assert len(outbox.collect()) == 1
        assert outbox.collect() == []

    def test_some_are_collected_from_the_oldest_on(self) -> None:
        outbox = Outbox()
        posted = [outbox.submit(data(number), 9.0)[0] for number in range(3)]
        assert ids(outbox.collect(1)) == posted[:1]
        assert ids(outbox.collect(9)) == posted[1:]
        assert outbox.collect(1) == []


class TestLimits:
    """Full queues give up the oldest and say so."""

    def test_kept(self) -> None:
        outbox = Outbox(keep_limit=1)
        first, nothing = outbox.keep(data(1), 9.0)
        assert nothing == []
        second, given_up = outbox.keep(data(2), 9.0)
        assert given_up == [first]
        outbox.post_kept()
        assert ids(outbox.collect()) == [second]

    def test_not_collected(self) -> None:
        outbox = Outbox(send_limit=2)
        own = outbox.post(Bye())
        first, nothing = outbox.submit(data(1), 9.0)
        assert nothing == []
        second, given_up = outbox.submit(data(2), 9.0)
        # The protocol's own frame stays.
        assert given_up == [first]
        assert ids(outbox.collect()) == [own, second]

    def test_too_large_for_the_server(self) -> None:
        outbox = Outbox()
        envelope = len(json.dumps({"data": ""})) + 100
        outbox.submit(data("x" * (MAX_FRAME_BYTES - envelope)), 0.0)
        with pytest.raises(UsageError, match="too large"):
            outbox.submit(data("x" * MAX_FRAME_BYTES), 0.0)
        with pytest.raises(UsageError, match="too large"):
            outbox.keep(data("é" * (MAX_FRAME_BYTES // 4)), 0.0)
        assert len(outbox.collect()) == 1


class TestLostSocket:
    """What a socket did not take."""

    def test_application_messages_wait_again_in_order(self) -> None:
        outbox = Outbox()
        outbox.post(Bye())
        first = outbox.submit(data(1), 10.0)[0]
        second = outbox.submit(data(2), 20.0)[0]
        third = outbox.keep(data(3), 30.0)[0]
        assert outbox.drop_frames() == []
        assert outbox.collect() == []
        assert outbox.deadline() == 10.0
        assert outbox.expire(10.0) == [first]
        outbox.post_kept()
        assert ids(outbox.collect()) == [second, third]
        assert outbox.deadline() is None

    def test_the_limit_holds_then_too(self) -> None:
        outbox = Outbox(keep_limit=1)
        first = outbox.submit(data(1), 10.0)[0]
        outbox.submit(data(2), 10.0)
        assert outbox.drop_frames() == [first]

    def test_the_end_reports_what_waited(self) -> None:
        outbox = Outbox()
        waiting = outbox.keep(data(1), 10.0)[0]
        assert outbox.drop_all() == [waiting]
        assert outbox.drop_all() == []
        assert outbox.deadline() is None
