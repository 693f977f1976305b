"""Joining and leaving rooms."""

from __future__ import annotations

from spreed_signaling.testing.hpb import EmbeddedHpb
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from ..raw_client import TOKEN, RawClient, kind_of, raw_client


class TestRooms:
    async def test_join_order_and_entries(
        self, user: RawClient, bot: RawClient, alice: Member
    ) -> None:
        await bot.send("internal", {"type": "incall", "incall": {"incall": 1}})
        await bot.join()
        kinds = [kind_of(bot.received[-1]), *await bot.nothing_more()]
        assert kinds == [
            "room",
            "event/room/join",
            "event/room/join",
            "event/participants/update",
        ]
        joined = [f["event"]["join"] for f in bot.received if kind_of(f)[-4:] == "join"]
        assert joined == [
            [
                {
                    "sessionid": user.session_id,
                    "userid": "alice",
                    "features": ["chat-relay"],
                    "user": {"displayname": "Alice"},
                    "roomsessionid": alice.nc_session_id,
                }
            ],
            [
                {
                    "sessionid": bot.session_id,
                    "userid": "",
                    "features": ["internal-incall"],
                }
            ],
        ]
        update = bot.received[-2]["event"]["update"]
        (entry,) = update["users"]
        assert entry["sessionId"] == bot.session_id
        assert entry["internal"] is True and entry["inCall"] == 1
        assert await user.nothing_more() == [
            "event/room/join",
            "event/participants/update",
        ]

    async def test_internal_client_without_the_feature_seems_to_speak(
        self, hpb: EmbeddedHpb, nextcloud: StandInNextcloud
    ) -> None:
        async with raw_client(hpb) as client:
            await client.hello_internal(backend=nextcloud.url, features=[])
            await client.join()
            update = await client.kind("event/participants/update")
            assert update["event"]["update"]["users"][0]["inCall"] == 3

    async def test_unknown_room(self, hpb: EmbeddedHpb, alice: Member) -> None:
        async with raw_client(hpb) as client:
            await client.hello_member(alice)
            frame = await client.join(alice, token="elsewhere")
            assert frame["error"]["code"] == "no_such_room"

    async def test_internal_client_joins_any_room(
        self, bot: RawClient, nextcloud: StandInNextcloud
    ) -> None:
        frame = await bot.join(token="elsewhere")
        assert frame["room"] == {"roomid": "elsewhere"}
        assert not any(r.summary.startswith("room") for r in nextcloud.requests)

    async def test_leave(
        self, nextcloud: StandInNextcloud, user: RawClient, bot: RawClient
    ) -> None:
        await bot.join()
        message_id = await user.send("room", {"roomid": ""})
        frame = await user.until(lambda f: f.get("id") == message_id)
        assert frame["room"] == {"roomid": ""}
        leave = await bot.kind("event/room/leave")
        assert leave["event"]["leave"] == [user.session_id]
        await nextcloud.wait_for_request(lambda r: r.summary == f"room leave {TOKEN}")
        await user.send("room", {"roomid": ""})
        assert await user.nothing_more() == []

    async def test_internal_leave_is_reported_with_a_new_list(
        self,
        nextcloud: StandInNextcloud,
        user: RawClient,
        bot: RawClient,
        alice: Member,
    ) -> None:
        await bot.join()
        await nextcloud.join_call(alice)
        await bot.nothing_more()
        await user.nothing_more()
        await bot.send("bye", {})
        await user.kind("event/room/leave")
        update = await user.kind("event/participants/update")
        (entry,) = update["event"]["update"]["users"]
        assert entry["sessionId"] == user.session_id

    async def test_same_nextcloud_session_twice(
        self, hpb: EmbeddedHpb, user: RawClient, alice: Member
    ) -> None:
        async with raw_client(hpb) as client:
            await client.hello_member(alice)
            await client.join(alice)
            frame = await user.kind("bye")
            assert frame["bye"] == {"reason": "room_session_reconnected"}
            assert len(hpb.sessions) == 1
