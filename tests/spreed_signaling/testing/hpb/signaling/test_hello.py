"""Establishing a connection, spoken as raw JSON."""

from __future__ import annotations

import json
import time

import pytest

from spreed_signaling.testing.hpb import EmbeddedHpb, HpbOptions
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from ..raw_client import TOKEN, Frame, RawClient, kind_of, raw_client


class TestEstablishConnection:
    async def test_welcome_comes_first(self, hpb: EmbeddedHpb) -> None:
        async with raw_client(hpb) as client:
            frame = await client.receive()
            assert frame["type"] == "welcome"
            assert frame["welcome"]["version"] == "2.0.2-embedded"
            assert "mcu" in frame["welcome"]["features"]
            response = client.socket.response
            assert response is not None
            header = response.headers["X-Spreed-Signaling-Features"]
            assert "mcu" in header and "virtual-sessions" not in header

    async def test_features_depend_on_the_kind_of_client(
        self, hpb: EmbeddedHpb, nextcloud: StandInNextcloud, alice: Member
    ) -> None:
        async with raw_client(hpb) as client:
            frame = await client.hello_internal(backend=nextcloud.url)
            features = frame["hello"]["server"]["features"]
            assert "virtual-sessions" in features
            assert "audio-video-permissions" not in features
        async with raw_client(hpb) as client:
            frame = await client.hello_member(alice)
            features = frame["hello"]["server"]["features"]
            assert "virtual-sessions" not in features
            assert "audio-video-permissions" in features
            assert frame["hello"]["userid"] == "alice"

    async def test_anything_before_hello(self, hpb: EmbeddedHpb) -> None:
        async with raw_client(hpb) as client:
            message_id = await client.send("room", {"roomid": TOKEN})
            assert await client.error(message_id) == "hello_expected"

    async def test_hello_timeout(self, hpb: EmbeddedHpb) -> None:
        async with raw_client(hpb) as client:
            frame = await client.kind("bye")
            assert frame["bye"] == {"reason": "hello_timeout"}
            await client.close_code()

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"version": "3.0"}, "invalid_hello_version"),
            ({"auth": {"type": "internal"}}, "invalid_format"),
            ({"backend": "http://elsewhere.example"}, "invalid_backend"),
            ({"secret": "wrong"}, "invalid_token"),
        ],
    )
    async def test_refused_internal_hello(
        self,
        hpb: EmbeddedHpb,
        nextcloud: StandInNextcloud,
        change: Frame,
        code: str,
    ) -> None:
        async with raw_client(hpb) as client:
            frame = await client.hello_internal(**{"backend": nextcloud.url, **change})
            assert frame["error"]["code"] == code
            # The socket stays usable.
            frame = await client.hello_internal(backend=nextcloud.url)
            assert frame["type"] == "hello"

    async def test_wrong_ticket(self, hpb: EmbeddedHpb, alice: Member) -> None:
        async with raw_client(hpb) as client:
            auth = alice.auth.hello_auth().to_json()
            auth["params"]["ticket"] = "wrong"
            frame = await client.hello({"version": "1.0", "auth": auth})
            assert frame["error"]["code"] == "invalid_ticket"

    async def test_token(
        self, hpb: EmbeddedHpb, nextcloud: StandInNextcloud, alice: Member
    ) -> None:
        auth = nextcloud.token_auth(alice).hello_auth().to_json()
        async with raw_client(hpb) as client:
            frame = await client.hello({"version": "2.0", "auth": auth})
            assert frame["hello"]["userid"] == "alice"
            joined = await client.join(alice)
            assert joined["room"]["roomid"] == TOKEN
            (entry,) = (await client.kind("event/room/join"))["event"]["join"]
            assert entry["user"] == {"displayname": "Alice"}
        auth["params"]["token"] = auth["params"]["token"][:-4] + "AAAA"
        async with raw_client(hpb) as client:
            frame = await client.hello({"version": "2.0", "auth": auth})
            assert frame["error"]["code"] == "invalid_token"

    async def test_second_hello_is_ignored(self, bot: RawClient) -> None:
        await bot.send("hello", {"version": "1.0", "resumeid": bot.resume_id})
        assert await bot.nothing_more() == []

    async def test_unknown_types_are_ignored(self, bot: RawClient) -> None:
        await bot.send("future", {"x": 1})
        assert await bot.nothing_more() == []

    async def test_invalid_frames(self, bot: RawClient) -> None:
        for data in ("not json", "[]", b"\x00"):
            await bot.socket.send(data)
            frame = await bot.receive()
            assert kind_of(frame) == "error/invalid_format"

    async def test_too_large_message(self, hpb: EmbeddedHpb, bot: RawClient) -> None:
        await bot.socket.send(json.dumps({"type": "x", "x": "y" * 70_000}))
        assert await bot.close_code() == 1009
        (view,) = hpb.sessions
        assert not view.connected  # It may resume.

    async def test_guest_must_join(
        self, hpb: EmbeddedHpb, nextcloud: StandInNextcloud
    ) -> None:
        guest = nextcloud.add_member(TOKEN, "", "Guest")
        async with raw_client(hpb) as client:
            await client.hello_member(guest)
            frame = await client.kind("bye")
            assert frame["bye"] == {"reason": "room_join_timeout"}


class TestThrottle:
    @pytest.fixture
    def options(self) -> HpbOptions:
        return HpbOptions(throttle_first_s=0.1, throttle_failures=2)

    async def test_failures_are_delayed_and_then_refused(
        self, hpb: EmbeddedHpb, nextcloud: StandInNextcloud
    ) -> None:
        codes: list[str] = []
        delays: list[float] = []
        for secret in ("wrong", "wrong", "the-internal-secret"):
            async with raw_client(hpb) as client:
                begin = time.monotonic()
                frame = await client.hello_internal(
                    backend=nextcloud.url, secret=secret
                )
                delays.append(time.monotonic() - begin)
                codes.append(frame["error"]["code"])
        assert codes == ["invalid_token", "invalid_token", "too_many_requests"]
        assert delays[0] >= 0.1 and delays[1] >= 0.2
