"""The same frames from the embedded server and from the real one.

Every test runs against both. Kinds of frames are compared without their order
where the real server has none.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
import pytest

from spreed_signaling.testing import Site
from spreed_signaling.testing.nextcloud import Member

from .raw_client import TOKEN, Frame, RawClient, kind_of, raw_client

JOIN, LEAVE = "event/room/join", "event/room/leave"
UPDATE = "event/participants/update"


async def settled(client: RawClient) -> list[str]:
    """Return the kinds of frames that came, sorted.

    The real server passes events on asynchronously: nothing but time shows that no
    more will come.
    """
    await anyio.sleep(0.15)
    return sorted(await client.nothing_more())


class Call:
    """A bot in the call, and Alice in the room."""

    def __init__(self, site: Site, bot: RawClient, user: RawClient) -> None:
        self.site = site
        self.bot = bot
        self.user = user
        self.alice: Member = site.nextcloud.add_member(TOKEN, "alice", "Alice")


@pytest.fixture
async def call(site: Site) -> AsyncIterator[Call]:
    async with raw_client(site.server) as bot, raw_client(site.server) as user:
        call = Call(site, bot, user)
        await bot.hello_internal(backend=site.nextcloud.url)
        await bot.send("internal", {"type": "incall", "incall": {"incall": 1}})
        await bot.join()
        await user.hello_member(call.alice)
        await user.join(call.alice)
        await settled(bot)
        await settled(user)
        yield call


def users_of(client: RawClient) -> dict[str, int]:
    """Return the in-call flags of the last list that a client received."""
    frame = next(f for f in reversed(client.received) if kind_of(f) == UPDATE)
    users: list[Frame] = frame["event"]["update"]["users"]
    return {entry["sessionId"]: entry["inCall"] for entry in users}


async def test_joins(call: Call) -> None:
    bot, user, site = call.bot, call.user, call.site
    await site.nextcloud.join_call(call.alice)
    assert await settled(bot) == await settled(user) == [UPDATE]
    assert users_of(bot) == {user.session_id: 3, bot.session_id: 1}
    async with raw_client(site.server) as late:
        await late.hello_internal(backend=site.nextcloud.url)
        frame = await late.join()
        assert frame["room"] == {"roomid": TOKEN}
        assert await settled(late) == [UPDATE, JOIN, JOIN]
        assert await settled(user) == [UPDATE, JOIN]
        expected = {user.session_id: 3, bot.session_id: 1, late.session_id: 0}
        assert users_of(late) == users_of(user) == expected
    await anyio.sleep(0.1)


async def test_joining_twice(call: Call) -> None:
    frame = await call.user.join(call.alice)
    assert frame["error"]["code"] == "already_joined"
    assert frame["error"]["details"] == {"room": {"roomid": TOKEN}}
    assert await settled(call.bot) == []


async def test_lists_keep_who_left(call: Call) -> None:
    await call.site.nextcloud.join_call(call.alice)
    await call.user.send("room", {"roomid": ""})
    assert await settled(call.user) == [UPDATE, "room"]
    assert await settled(call.bot) == [UPDATE, LEAVE]
    await call.bot.send("internal", {"type": "incall", "incall": {"incall": 3}})
    assert await settled(call.bot) == [UPDATE]
    assert users_of(call.bot) == {call.user.session_id: 3, call.bot.session_id: 3}


async def test_end_of_the_call_for_everybody(call: Call) -> None:
    await call.site.nextcloud.join_call(call.alice)
    await settled(call.bot)
    await call.site.nextcloud.end_call(TOKEN)
    frame = await call.bot.kind(UPDATE)
    assert frame["event"]["update"] == {"roomid": TOKEN, "incall": 0, "all": True}


async def test_a_bot_leaves(call: Call) -> None:
    await call.bot.send("bye", {})
    # The list would be empty, so none is sent.
    assert await settled(call.user) == [LEAVE]


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [
        ("offer", {"sdp": "nonsense"}, "invalid_sdp"),
        ("offer", {}, "no_sdp"),
        ("answer", {"sdp": "nonsense"}, "invalid_sdp"),
        ("answer", {}, "no_sdp"),
        ("candidate", {}, "client_not_found"),
        ("candidate", {"candidate": {"candidate": ""}}, "client_not_found"),
        ("endOfCandidates", {}, "client_not_found"),
        ("selectStream", {"audio": "x"}, "client_not_found"),
        ("requestoffer", {}, "not_allowed"),
    ],
)
async def test_media_errors(call: Call, kind: str, payload: Frame, code: str) -> None:
    data = {"type": kind, "roomType": "video", "sid": "1", "payload": payload}
    message_id = await call.user.to_session(call.bot.session_id, data)
    assert await call.user.error(message_id) == code


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("message", {"recipient": {"type": "room"}}, "invalid_format"),
        ("message", {"recipient": {"type": "x"}, "data": {}}, "invalid_format"),
        ("transient", {"type": "set", "value": 1}, "invalid_format"),
        ("transient", {"type": "x", "key": "k"}, "ignored"),
    ],
)
async def test_errors(call: Call, kind: str, body: Frame, code: str) -> None:
    message_id = await call.user.send(kind, body)
    assert await call.user.error(message_id) == code


async def test_messages(call: Call) -> None:
    bot, user = call.bot, call.user
    await bot.to_session(user.session_id, {"no": "type"})
    await bot.send("message", {"recipient": {"type": "room"}, "data": "text"})
    await bot.send(
        "message", {"recipient": {"type": "user", "userid": "alice"}, "data": {"n": 1}}
    )
    # Alice is not in the call, and nobody hears themselves.
    await bot.send("message", {"recipient": {"type": "call"}, "data": {"n": 2}})
    await user.send(
        "message", {"recipient": {"type": "user", "userid": "alice"}, "data": {"n": 3}}
    )
    assert await settled(user) == ["message/", "message/None", "message/None"]
    assert await settled(bot) == []
    senders = [f["message"]["sender"] for f in user.received if f["type"] == "message"]
    # Ways of their own through the real server: one may overtake another.
    assert sorted(senders, key=lambda sender: sender["type"]) == [
        {"type": kind, "sessionid": bot.session_id}
        for kind in ("room", "session", "user")
    ]


async def test_resume_steals_the_session(call: Call) -> None:
    async with raw_client(call.site.server) as thief:
        await thief.hello({"version": "1.0", "resumeid": call.bot.resume_id})
        assert thief.session_id == call.bot.session_id
        assert (await thief.kind(UPDATE))["event"]["update"]["users"]
        bye = await call.bot.kind("bye")
        assert bye["bye"] == {"reason": "session_resumed"}
        with contextlib.suppress(TimeoutError):
            assert await call.bot.close_code() in (1000, 1005)
        await thief.send("hello", {"version": "1.0", "resumeid": "x"})
        await thief.send("future", {})
        assert await settled(thief) == []
