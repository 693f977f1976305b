"""What Nextcloud tells the server, and what clients get to see of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from spreed_signaling.protocol.auth import backend_checksum, make_random
from spreed_signaling.testing.hpb import EmbeddedHpb
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud
from spreed_signaling.types import InCallFlags

from .raw_client import TOKEN, Frame, RawClient, kind_of, raw_client


@pytest.fixture
async def user(
    hpb: EmbeddedHpb, alice: Member, bot: RawClient
) -> AsyncIterator[RawClient]:
    """Alice, in the room; nothing is left to read."""
    async with raw_client(hpb) as client:
        await client.hello_member(alice)
        await client.join(alice)
        await client.nothing_more()
        await bot.nothing_more()
        yield client


class RoomApi:
    """Posts requests, rightly signed unless told otherwise."""

    def __init__(self, hpb: EmbeddedHpb, nextcloud: StandInNextcloud) -> None:
        self.url = f"{hpb.url}/api/v1/room/{TOKEN}"
        self.nextcloud = nextcloud

    async def post(
        self,
        body: Any,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        content = json.dumps(body).encode() if raw is None else raw
        random = make_random()
        secret = self.nextcloud.backend_secret
        signed = {
            "Spreed-Signaling-Random": random,
            "Spreed-Signaling-Checksum": backend_checksum(secret, random, content),
            "Spreed-Signaling-Backend": self.nextcloud.url,
            "Content-Type": "application/json",
        }
        async with httpx.AsyncClient(trust_env=False) as http:
            return await http.post(
                self.url,
                content=content,
                headers={**signed, **(headers or {})},
            )


@pytest.fixture
def api(hpb: EmbeddedHpb, nextcloud: StandInNextcloud) -> RoomApi:
    return RoomApi(hpb, nextcloud)


class TestRequests:
    async def test_status_codes(self, api: RoomApi) -> None:
        message = {"type": "message", "message": {"data": {}}}
        assert (await api.post(message)).json() == {}
        assert (await api.post({"type": "other", "other": {}})).status_code == 400
        assert (await api.post({}, raw=b"not json")).status_code == 400
        assert (await api.post({}, raw=b"x" * 300_000)).status_code == 413
        bad = {"Spreed-Signaling-Checksum": "0" * 64}
        assert (await api.post(message, headers=bad)).status_code == 403
        bad = {"Spreed-Signaling-Backend": "http://elsewhere.example"}
        assert (await api.post(message, headers=bad)).status_code == 403
        answer = await api.post({"type": "dialout", "dialout": {"number": "+491"}})
        assert answer.status_code == 400
        assert answer.json()["dialout"]["error"]["code"] == "invalid_roomid"

    async def test_length_is_needed(self, api: RoomApi) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"{}"

        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(api.url, content=chunks())
        assert answer.status_code == 411


class TestInCall:
    async def test_ids_are_translated(
        self,
        nextcloud: StandInNextcloud,
        user: RawClient,
        bot: RawClient,
        alice: Member,
    ) -> None:
        await nextcloud.join_call(alice)
        for client in (user, bot):
            frame = await client.kind("event/participants/update")
            update = frame["event"]["update"]
            assert "changed" not in update and update["roomid"] == TOKEN
            entry, internal = update["users"]
            assert entry["sessionId"] == user.session_id
            assert (entry["inCall"], entry["userId"]) == (3, "alice")
            assert internal["internal"] and internal["sessionId"] == bot.session_id

    async def test_unknown_sessions_are_left_out(
        self, nextcloud: StandInNextcloud, user: RawClient, alice: Member, bob: Member
    ) -> None:
        await nextcloud.join_call(bob)
        frame = await user.kind("event/participants/update")
        ids = [item["sessionId"] for item in frame["event"]["update"]["users"]]
        assert bob.nc_session_id not in ids and user.session_id in ids

    async def test_everybody(
        self,
        api: RoomApi,
        nextcloud: StandInNextcloud,
        user: RawClient,
        bot: RawClient,
        hpb: EmbeddedHpb,
        alice: Member,
    ) -> None:
        body = {"type": "incall", "incall": {"incall": 7, "all": True}}
        await api.post(body)
        frame = await user.kind("event/participants/update")
        assert frame["event"]["update"] == {"roomid": TOKEN, "incall": 7, "all": True}
        assert await bot.nothing_more() == []
        assert {v.user_id: v.in_call for v in hpb.sessions} == {"alice": True, "": True}
        await nextcloud.join_call(alice, InCallFlags(7))
        await bot.kind("event/participants/update")
        await nextcloud.end_call(TOKEN)
        frame = await bot.kind("event/participants/update")
        assert frame["event"]["update"] == {"roomid": TOKEN, "incall": 0, "all": True}
        assert {v.user_id: v.in_call for v in hpb.sessions}["alice"] is False

    async def test_late_joiner_gets_the_list(
        self,
        hpb: EmbeddedHpb,
        nextcloud: StandInNextcloud,
        user: RawClient,
        alice: Member,
    ) -> None:
        await nextcloud.join_call(alice)
        async with raw_client(hpb) as late:
            await late.hello_internal(backend=nextcloud.url)
            await late.join()
            frame = await late.kind("event/participants/update")
            first = frame["event"]["update"]["users"][0]
            assert (first["sessionId"], first["inCall"]) == (user.session_id, 3)

    async def test_internal_client_changes_its_flags(
        self, user: RawClient, bot: RawClient
    ) -> None:
        await bot.send("internal", {"type": "incall", "incall": {"incall": 3}})
        frame = await user.kind("event/participants/update")
        assert frame["event"]["update"]["users"][-1]["inCall"] == 3
        # Users may not use this message; it is dropped.
        await user.send("internal", {"type": "incall", "incall": {"incall": 3}})
        assert await user.nothing_more() == []


class TestEvents:
    async def test_message(self, api: RoomApi, user: RawClient) -> None:
        data = {"type": "chat", "chat": {"refresh": True}}
        await api.post({"type": "message", "message": {"data": data}})
        frame = await user.receive()
        assert frame["event"] == {
            "target": "room",
            "type": "message",
            "message": {"roomid": TOKEN, "data": data},
        }

    async def test_update_pushes_properties(
        self, api: RoomApi, user: RawClient, bot: RawClient
    ) -> None:
        body = {"userids": ["alice"], "properties": {"name": "New", "type": 2}}
        await api.post({"type": "update", "update": body})
        frame = await bot.receive()
        assert frame == {
            "type": "room",
            "room": {"roomid": TOKEN, "properties": body["properties"]},
        }
        assert await user.nothing_more() == ["event/roomlist/update", "room"]

    async def test_invite_and_update_of_others(
        self, api: RoomApi, user: RawClient
    ) -> None:
        api.url = api.url.replace(TOKEN, "another")
        properties = {"name": "Another"}
        for kind, body in (
            ("invite", {"userids": ["alice"], "properties": properties}),
            ("invite", {"alluserids": ["alice"], "properties": properties}),
            ("disinvite", {"userids": ["alice"]}),
            ("disinvite", {"alluserids": ["alice"], "properties": properties}),
            ("update", {"userids": ["alice"], "properties": properties}),
        ):
            assert (await api.post({"type": kind, kind: body})).status_code == 200
        # Requests about rooms that nobody is in are no errors.
        for kind in ("incall", "participants", "message", "delete"):
            assert (await api.post({"type": kind, kind: {}})).status_code == 200
        assert await user.nothing_more() == [
            "event/roomlist/invite",
            "event/roomlist/update",
            "event/roomlist/disinvite",
            "event/roomlist/update",
            "event/roomlist/update",
        ]
        assert user.received[-2]["event"]["update"] == {
            "roomid": "another",
            "properties": properties,
        }

    async def test_disinvite_ends_the_session(
        self, api: RoomApi, user: RawClient, bot: RawClient, hpb: EmbeddedHpb
    ) -> None:
        await api.post({"type": "disinvite", "disinvite": {"userids": ["alice"]}})
        frame = await user.receive()
        assert frame["event"]["disinvite"] == {
            "roomid": TOKEN,
            "reason": "disinvited",
        }
        await user.close_code()
        await bot.kind("event/room/leave")
        assert [v.internal for v in hpb.sessions] == [True]

    async def test_delete(
        self, api: RoomApi, user: RawClient, bot: RawClient, hpb: EmbeddedHpb
    ) -> None:
        await api.post({"type": "delete", "delete": {"userids": ["alice"]}})
        await user.close_code()
        kinds = [kind for kind in await bot.nothing_more() if "leave" not in kind]
        assert kinds[-2:] == ["event/room/delete", "room"]
        deleted = next(f for f in bot.received if kind_of(f) == "event/room/delete")
        assert deleted["event"] == {"target": "room", "type": "delete"}
        (view,) = hpb.sessions
        assert view.connected and view.room_token is None

    @pytest.mark.parametrize("with_details", [False, True])
    async def test_switch_to(
        self, api: RoomApi, user: RawClient, alice: Member, with_details: bool
    ) -> None:
        sessions: Any = [alice.nc_session_id]
        expected: Frame = {"roomid": "tok2"}
        if with_details:
            sessions = {alice.nc_session_id: {"a": 1}}
            expected["details"] = {"a": 1}
        body = {"roomid": "tok2", "sessions": sessions}
        await api.post({"type": "switchto", "switchto": body})
        frame = await user.receive()
        assert frame["event"]["switchto"] == expected

    async def test_permissions_change(
        self, api: RoomApi, user: RawClient, alice: Member
    ) -> None:
        changed = [{"sessionId": alice.nc_session_id, "permissions": ["control"]}]
        body = {"changed": changed, "users": changed}
        await api.post({"type": "participants", "participants": body})
        frame = await user.kind("event/participants/update")
        assert "permissions" not in frame["event"]["update"]["users"][0]
        message_id = await user.send(
            "transient", {"type": "set", "key": "a", "value": 1}
        )
        assert await user.error(message_id) == "not_allowed"
