"""The parts without I/O, with a clock of our own."""

from __future__ import annotations

import json
from typing import Any

from spreed_signaling.testing.hpb.effects import MediaEnded, RoomLeft, RoomPing
from spreed_signaling.testing.hpb.hub import Hub
from spreed_signaling.testing.hpb.options import HpbOptions
from spreed_signaling.testing.hpb.state import Link, ResumeIds, Session
from spreed_signaling.testing.hpb.throttle import Throttle


def make_session(**changes: Any) -> Session:
    values: dict[str, Any] = {
        "version": "1.0",
        "user_id": "alice",
        "user": None,
        "features": (),
        "internal": False,
        "backend_url": "http://nc/",
        "resume_id": ResumeIds("key").make(),
    }
    return Session(**{**values, **changes})


def connected(hub: Hub, session: Session, now: float = 0.0) -> Link:
    link = Link(address="192.0.2.1", limit=100)
    hub.connect(link, now)
    hub.register(link, "1", session, now)
    return link


def join(hub: Hub, session: Session, nc_session_id: str = "nc-1") -> None:
    hub.displace(session, nc_session_id)
    hub.rooms.enter(session, "2", "tok", nc_session_id, {"properties": {}}, 0.0)


class TestThrottle:
    def test_delays_double_up_to_the_cap(self) -> None:
        throttle = Throttle(HpbOptions())
        delays = [throttle.fail("a", "192.0.2.1", 0.0) for _ in range(9)]
        assert delays[:3] == [0.1, 0.2, 0.4]
        assert delays[8] == 25.0

    def test_ten_failures_block_until_the_window_passes(self) -> None:
        throttle = Throttle(HpbOptions())
        for _ in range(10):
            assert not throttle.blocked("a", "192.0.2.1", 0.0)
            throttle.fail("a", "192.0.2.1", 0.0)
        assert throttle.blocked("a", "192.0.2.1", 1799.0)
        assert not throttle.blocked("a", "192.0.2.1", 1801.0)
        assert not throttle.blocked("a", "192.0.2.2", 0.0)
        assert not throttle.blocked("b", "192.0.2.1", 0.0)


class TestResumeIds:
    def test_ids_are_recognised_with_the_same_key_only(self) -> None:
        resume_id = ResumeIds("key").make()
        assert len(resume_id) > 100
        assert ResumeIds("key").is_ours(resume_id)
        assert not ResumeIds("other").is_ours(resume_id)
        assert not ResumeIds("key").is_ours("x" * len(resume_id))
        assert not ResumeIds("key").is_ours("")


class TestHub:
    def test_session_expires_after_the_window(self) -> None:
        hub = Hub(HpbOptions(), media=True)
        session = make_session()
        link = connected(hub, session)
        join(hub, session)
        hub.take_effects()
        hub.disconnect(link, 100.0)
        assert session.expires_at == 130.0
        hub.tick(129.9)
        assert session.session_id in hub.sessions
        hub.take_effects()
        hub.tick(130.0)
        assert hub.sessions == {} and hub.rooms.by_token == {}
        assert [type(item) for item in hub.take_effects()] == [
            MediaEnded,
            RoomLeft,
            MediaEnded,
        ]
        assert hub.deadline() is None

    def test_rooms_are_pinged_with_nextcloud_sessions_only(self) -> None:
        hub = Hub(HpbOptions(), media=True)
        user, bot = make_session(), make_session(internal=True, user_id="")
        for session in (user, bot):
            connected(hub, session)
        join(hub, user)
        join(hub, bot, "")
        hub.take_effects()
        assert hub.deadline() == 10.0
        hub.tick(10.0)
        (ping,) = hub.take_effects()
        assert isinstance(ping, RoomPing) and ping.entries == (("alice", "nc-1"),)
        # Asking for the room again makes 2.0.2 ping the bot's own id.
        hub.rooms.already_joined(bot, "3", "")
        hub.tick(20.0)
        (ping,) = hub.take_effects()
        assert isinstance(ping, RoomPing)
        assert ping.entries == (("alice", "nc-1"), ("", bot.session_id))

    def test_queues_are_bounded(self) -> None:
        hub = Hub(HpbOptions(max_queued_messages=3), media=False)
        session = make_session()
        link = connected(hub, session)
        hub.disconnect(link, 0.0)
        for _ in range(4):
            session.send({"type": "x"})
        hub.tick(1.0)
        assert session.ended
        slow = Link(address="", limit=2)
        for _ in range(3):
            slow.send({"type": "x"})
        assert slow.cut and len(slow.outgoing) == 2

    def test_without_media_the_features_say_so(self) -> None:
        hub = Hub(HpbOptions(), media=False)
        link = connected(hub, make_session())
        for text in link.outgoing:
            frame = json.loads(text)
            body = frame[frame["type"]]
            found = body.get("features") or body["server"]["features"]
            assert not {"mcu", "simulcast", "update-sdp"} & set(found)

    def test_guests_must_join_again_after_leaving(self) -> None:
        hub = Hub(HpbOptions(), media=False)
        guest = make_session(user_id="")
        connected(hub, guest)
        assert guest.join_deadline == 10.0
        join(hub, guest)
        assert guest.join_deadline is None
        hub.rooms.leave(guest)
        hub.expect_join(guest, 50.0)
        hub.tick(60.0)
        assert guest.ended
