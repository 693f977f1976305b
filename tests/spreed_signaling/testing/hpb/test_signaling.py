"""The signaling protocol, spoken as raw JSON."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from spreed_signaling.testing._serve import AppServer
from spreed_signaling.testing.hpb import EmbeddedHpb, HpbOptions
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from .raw_client import TOKEN, Frame, RawClient, kind_of, raw_client


@pytest.fixture
async def bot(
    hpb: EmbeddedHpb, nextcloud: StandInNextcloud
) -> AsyncIterator[RawClient]:
    """An internal client after its hello."""
    async with raw_client(hpb) as client:
        await client.hello_internal(backend=nextcloud.url)
        yield client


@pytest.fixture
async def user(hpb: EmbeddedHpb, alice: Member) -> AsyncIterator[RawClient]:
    """Alice, in the room."""
    async with raw_client(hpb) as client:
        await client.hello_member(alice)
        await client.join(alice)
        await client.kind("event/room/join")
        yield client


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


class TestBackendTroubles:
    @pytest.mark.parametrize("reply", ["html", "throttled", "odd", "wrong type"])
    async def test_unusable_answers(self, reply: str) -> None:
        """Nextcloud answers, but not as it should."""
        answers: dict[str, Response] = {
            "html": HTMLResponse("<p>maintenance</p>"),
            "throttled": JSONResponse(
                {
                    "ocs": {
                        "meta": {"statuscode": 429},
                        "data": {"type": "auth", "auth": {}},
                    }
                }
            ),
            "odd": JSONResponse({"ocs": []}),
            "wrong type": JSONResponse(
                {"ocs": {"meta": {}, "data": {"type": "ping", "ping": {}}}}
            ),
        }

        async def answer(request: Request) -> Response:
            return answers[reply]

        app = Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])
        async with (
            AppServer(app) as nextcloud,
            EmbeddedHpb(
                backend_url=nextcloud.url, backend_secret="s", internal_secret=""
            ) as hpb,
            raw_client(hpb) as client,
        ):
            auth: Frame = {"url": f"{nextcloud.url}/x", "params": {}}
            frame = await client.hello({"version": "1.0", "auth": auth})
            expected = "auth_failed" if reply == "wrong type" else "internal_error"
            assert frame["error"]["code"] == expected
            # Without an internal secret there are no internal clients.
            frame = await client.hello_internal(backend=nextcloud.url)
            assert frame["error"]["code"] == "invalid_client_type"

    async def test_nextcloud_is_down(self) -> None:
        async with (
            EmbeddedHpb(
                backend_url="http://127.0.0.1:9",
                backend_secret="s",
                internal_secret="the-internal-secret",
            ) as hpb,
            raw_client(hpb) as client,
        ):
            for version in ("1.0", "2.0"):
                auth: Frame = {"url": "http://127.0.0.1:9/x", "params": {"token": "t"}}
                frame = await client.hello({"version": version, "auth": auth})
                assert frame["error"]["code"] == "internal_error"
            auth = {"url": "http://elsewhere.example/x", "params": {}}
            frame = await client.hello({"version": "1.0", "auth": auth})
            assert frame["error"]["code"] == "invalid_backend"
            auth = {"type": "federation", "params": {}}
            frame = await client.hello({"version": "1.0", "auth": auth})
            assert frame["error"]["code"] == "invalid_client_type"


class TestHttp:
    async def test_welcome(self, hpb: EmbeddedHpb) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{hpb.url}/api/v1/welcome")
        assert answer.json() == {
            "nextcloud-spreed-signaling": "Welcome",
            "version": "2.0.2-embedded",
        }


class TestHooks:
    async def test_drop_connections(self, hpb: EmbeddedHpb, bot: RawClient) -> None:
        await hpb.drop_connections()
        assert await bot.close_code() == 1006
        (view,) = hpb.sessions
        assert (view.connected, view.internal) == (False, True)

    async def test_port_can_be_used_again(self, nextcloud: StandInNextcloud) -> None:
        port = 0
        resume_id = ""
        for _ in range(2):
            async with EmbeddedHpb(
                backend_url=nextcloud.url,
                backend_secret=nextcloud.backend_secret,
                internal_secret="the-internal-secret",
                port=port,
                options=HpbOptions(throttle_first_s=60.0),
            ) as hpb:
                port = int(hpb.url.rpartition(":")[2])
                async with raw_client(hpb) as client:
                    if resume_id:
                        # Known as one of ours, so that it is not throttled.
                        with anyio.fail_after(20):
                            frame = await client.hello(
                                {"version": "1.0", "resumeid": resume_id}
                            )
                        assert frame["error"]["code"] == "no_such_session"
                    await client.hello_internal(backend=nextcloud.url)
                    resume_id = client.resume_id
