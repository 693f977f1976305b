"""Sessions that outlive their socket."""

from __future__ import annotations

import time

import pytest

from spreed_signaling.testing.hpb import EmbeddedHpb, HpbOptions
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from ..raw_client import TOKEN, Frame, RawClient, raw_client


class TestResume:
    @pytest.fixture
    def options(self) -> HpbOptions:
        return HpbOptions(resume_window_s=1.0, throttle_first_s=0.05)

    async def resume(self, client: RawClient, resume_id: str) -> Frame:
        return await client.hello({"version": "1.0", "resumeid": resume_id})

    async def test_same_session_and_queued_messages(
        self, hpb: EmbeddedHpb, bot: RawClient, user: RawClient, alice: Member
    ) -> None:
        await bot.join()
        await bot.socket.close()
        for number in (1, 2):
            await user.to_session(bot.session_id, {"type": "x", "number": number})
        assert await user.nothing_more() is not None
        async with raw_client(hpb) as client:
            frame = await self.resume(client, bot.resume_id)
            assert frame["hello"]["sessionid"] == bot.session_id
            assert frame["hello"]["resumeid"] == bot.resume_id
            assert frame["hello"]["server"]["features"]
            numbers = [
                (await client.kind("message/x"))["message"]["data"]["number"]
                for _ in range(2)
            ]
            assert numbers == [1, 2]
            # No update of participants was queued, so a fresh one follows.
            await client.kind("event/participants/update")
            message_id = await client.send("room", {"roomid": TOKEN})
            error = await client.until(lambda f: f.get("id") == message_id)
            assert error["error"]["code"] == "already_joined"
            assert error["error"]["details"]["room"]["roomid"] == TOKEN

    async def test_second_socket_steals(self, hpb: EmbeddedHpb, bot: RawClient) -> None:
        async with raw_client(hpb) as client:
            await self.resume(client, bot.resume_id)
            frame = await bot.kind("bye")
            assert frame["bye"] == {"reason": "session_resumed"}
            await bot.close_code()
            assert await client.nothing_more() == []

    async def test_expiry_leaves_the_room(
        self,
        hpb: EmbeddedHpb,
        nextcloud: StandInNextcloud,
        bot: RawClient,
        user: RawClient,
        alice: Member,
    ) -> None:
        await bot.join()
        await user.socket.close()
        leave = await bot.kind("event/room/leave")
        assert leave["event"]["leave"] == [user.session_id]
        await nextcloud.wait_for_request(lambda r: r.summary == f"room leave {TOKEN}")
        async with raw_client(hpb) as client:
            frame = await self.resume(client, user.resume_id)
            assert frame["error"]["code"] == "no_such_session"
            # A full hello on the same socket works.
            assert (await client.hello_member(alice))["type"] == "hello"

    async def test_garbage_is_throttled(self, hpb: EmbeddedHpb, bot: RawClient) -> None:
        async with raw_client(hpb) as client:
            begin = time.monotonic()
            frame = await self.resume(client, bot.session_id)
            assert frame["error"]["code"] == "no_such_session"
            assert time.monotonic() - begin >= 0.05

    async def test_bye_ends_the_session(self, hpb: EmbeddedHpb, bot: RawClient) -> None:
        message_id = await bot.send("bye", {})
        assert await bot.receive() == {"id": message_id, "type": "bye"}
        await bot.close_code()
        assert hpb.sessions == ()
