"""Messages between clients, and data that a room shares."""

from __future__ import annotations

import time
from typing import Any

import pytest

from spreed_signaling.testing.hpb import EmbeddedHpb
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from ..raw_client import TOKEN, Frame, RawClient, raw_client


class TestMessages:
    async def test_to_session_room_user_and_call(
        self,
        hpb: EmbeddedHpb,
        nextcloud: StandInNextcloud,
        user: RawClient,
        bot: RawClient,
        bob: Member,
    ) -> None:
        await bot.join()
        async with raw_client(hpb) as other:
            await other.hello_member(bob)
            await other.join(bob)
            for client in (user, bot, other):
                await client.nothing_more()
            recipients: dict[str, Frame] = {
                "session": {"type": "session", "sessionid": bot.session_id},
                "user": {"type": "user", "userid": "bob"},
                "room": {"type": "room"},
                "call": {"type": "call"},
            }
            await bot.send("internal", {"type": "incall", "incall": {"incall": 1}})
            await bot.nothing_more()
            for name, recipient in recipients.items():
                body = {"recipient": recipient, "data": {"type": name}}
                await user.send("message", body)
            assert await user.nothing_more() == ["event/participants/update"]
            seen = await bot.nothing_more()
            assert seen == ["message/session", "message/room", "message/call"]
            sender = {"sessionid": user.session_id, "userid": "alice"}
            names = [
                f["message"]["sender"] for f in bot.received if f["type"] == "message"
            ]
            assert names == [
                {"type": kind, **sender} for kind in ("session", "room", "call")
            ]
            seen = [k for k in await other.nothing_more() if k.startswith("message")]
            assert seen == ["message/user", "message/room"]

    async def test_data_without_a_type_is_relayed(
        self, user: RawClient, bot: RawClient
    ) -> None:
        await bot.to_session(user.session_id, {"no": "type"})
        frame = await user.kind("message/None")
        assert frame["message"]["data"] == {"no": "type"}

    async def test_to_oneself_and_to_nobody_is_silent(self, bot: RawClient) -> None:
        await bot.to_session(bot.session_id, {"type": "x"})
        await bot.to_session("nobody", {"type": "x"})
        assert await bot.nothing_more() == []

    @pytest.mark.parametrize(
        ("recipient", "data"),
        [
            ({"type": "session", "sessionid": ""}, {"type": "x"}),
            ({"type": "planet"}, {"type": "x"}),
            ({"type": "session", "sessionid": "a"}, {"type": "x", "roomType": "y"}),
            ({"type": "room"}, None),
        ],
    )
    async def test_invalid(self, bot: RawClient, recipient: Frame, data: Any) -> None:
        message_id = await bot.send("message", {"recipient": recipient, "data": data})
        assert await bot.error(message_id) == "invalid_format"

    async def test_control_needs_permission(
        self, hpb: EmbeddedHpb, nextcloud: StandInNextcloud, user: RawClient
    ) -> None:
        weak = nextcloud.add_member(TOKEN, "carol", "Carol", permissions=())
        recipient = {"type": "session", "sessionid": user.session_id}
        async with raw_client(hpb) as client:
            await client.hello_member(weak)
            await client.join(weak)
            await client.send("control", {"recipient": recipient, "data": {"n": 1}})
            await client.nothing_more()
            assert "control" not in await user.nothing_more()
            await user.send(
                "control",
                {
                    "recipient": {"type": "session", "sessionid": client.session_id},
                    "data": {"n": 2},
                },
            )
            frame = await client.kind("control")
            assert frame["control"]["data"] == {"n": 2}

    async def test_requestoffer_rules(self, user: RawClient, bot: RawClient) -> None:
        await bot.join()
        begin = time.monotonic()
        late = await bot.request_offer(user.session_id)
        refused = await user.request_offer(bot.session_id)
        assert await user.error(refused) == "not_allowed"
        # Other messages are answered while the request waits.
        await bot.nothing_more()
        assert await bot.error(late) == "client_not_found"
        assert time.monotonic() - begin >= 0.5
        for kind in ("candidate", "selectStream"):
            payload = {"sdp": "x", "candidate": {"candidate": "candidate:1 1 udp 1 1"}}
            data = {"type": kind, "sid": "1", "roomType": "video", "payload": payload}
            message_id = await bot.to_session(user.session_id, data)
            assert await bot.error(message_id) == "client_not_found"


class TestTransientData:
    async def test_set_remove_initial(self, user: RawClient, bot: RawClient) -> None:
        message_id = await bot.send("transient", {"type": "set", "key": "a"})
        assert await bot.error(message_id) == "not_in_room"
        await user.send("transient", {"type": "set", "key": "a", "value": 1})
        await user.send("transient", {"type": "set", "key": "a", "value": 1})
        await user.send("transient", {"type": "set", "key": "a", "value": 2})
        await user.send("transient", {"type": "remove", "key": "b"})
        await user.nothing_more()
        seen = [f["transient"] for f in user.received if f["type"] == "transient"]
        assert seen == [
            {"type": "set", "key": "a", "value": 1},
            {"type": "set", "key": "a", "value": 2, "oldvalue": 1},
        ]
        await bot.join()
        initial = await bot.kind("transient")
        assert initial["transient"] == {"type": "initial", "data": {"a": 2}}
        await user.send("transient", {"type": "remove", "key": "a"})
        removed = await bot.kind("transient")
        assert removed["transient"] == {"type": "remove", "key": "a", "oldvalue": 2}

    async def test_time_to_live(self, user: RawClient) -> None:
        body = {"type": "set", "key": "a", "value": 1, "ttl": 100_000_000}
        await user.send("transient", body)
        await user.kind("transient")
        frame = await user.kind("transient")
        assert frame["transient"]["type"] == "remove"

    async def test_refusals(
        self, hpb: EmbeddedHpb, nextcloud: StandInNextcloud, user: RawClient
    ) -> None:
        message_id = await user.send("transient", {"type": "other", "key": "a"})
        assert await user.error(message_id) == "ignored"
        weak = nextcloud.add_member(TOKEN, "carol", "Carol", permissions=())
        async with raw_client(hpb) as client:
            await client.hello_member(weak)
            await client.join(weak)
            body = {"type": "set", "key": "a", "value": 1}
            message_id = await client.send("transient", body)
            assert await client.error(message_id) == "not_allowed"
