"""Clients against both kinds of server: sessions, rooms, and what interrupts them."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import anyio.lowlevel
import pytest

from spreed_signaling import (
    BackendNotAllowed,
    Client,
    ConnectFailed,
    CredentialsRefused,
    DataReceived,
    Disconnected,
    InCallFlags,
    InternalAuth,
    InternalSecretRefused,
    ParticipantJoined,
    ParticipantLeft,
    Phase,
    Room,
    RoomJoined,
    RoomLeft,
    RoomRefused,
    SessionEnded,
    SessionEvent,
    SessionFinished,
    SessionResumed,
    SessionStarted,
    UsageError,
    connect,
)
from spreed_signaling._events import EventStream
from spreed_signaling.testing import Member, ServerKind, Site

from .harness import ROOM, SECRET, next_of, open_link, open_restartable, wait_until


def bot_auth(site: Site) -> InternalAuth:
    return InternalAuth(
        secret=site.server.internal_secret, backend_url=site.nextcloud.url
    )


async def enter_as(
    stack: AsyncExitStack, url: str, member: Member
) -> tuple[Client, Room]:
    """Join as a user for as long as the stack is open."""
    client = await stack.enter_async_context(connect(url, member.auth))
    room = await stack.enter_async_context(
        client.join(member.room_token, nc_session_id=member.nc_session_id)
    )
    return client, room


async def test_a_bot_and_a_user_meet(site: Site) -> None:
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    async with connect(site.server.url, bot_auth(site)) as bot, bot.join(ROOM) as room:
        assert bot.session_id is not None and bot.status().in_room and room.joined
        assert "hello-v2" in bot.features
        with room.subscribe() as events:
            async with AsyncExitStack() as stack:
                client, user_room = await enter_as(stack, site.server.url, alice)
                joined = await next_of(events, ParticipantJoined)
                await wait_until(
                    bot, lambda: room.find_nc_session(alice.nc_session_id) is not None
                )
                seen = room.participants[client.session_id or ""]
                assert joined.participant.session_id == client.session_id
                assert (seen.user_id, seen.display_name) == ("alice", "Alice")
                assert not seen.internal and not seen.has_audio
                assert room.find_nc_session(alice.nc_session_id) == seen
                # Ourselves are never in the list.
                assert bot.session_id not in room.participants

                await site.nextcloud.join_call(
                    alice, flags=InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO
                )
                await wait_until(
                    bot, lambda: room.participants[seen.session_id].has_audio
                )
                await wait_until(client, lambda: user_room.participants)
            left = await next_of(events, ParticipantLeft)
            assert left.participant.session_id == seen.session_id
            assert room.participants == {}


async def test_data_goes_both_ways(site: Site) -> None:
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    async with AsyncExitStack() as stack:
        bot = await stack.enter_async_context(connect(site.server.url, bot_auth(site)))
        bot_room = await stack.enter_async_context(bot.join(ROOM))
        client, room = await enter_as(stack, site.server.url, alice)
        bot_events = stack.enter_context(bot.subscribe())
        events = stack.enter_context(client.subscribe())
        assert bot.session_id is not None and client.session_id is not None
        bot_room.send_data(client.session_id, {"type": "transcript", "text": "Grüße"})
        got = await next_of(events, DataReceived)
        assert got.sender_session_id == bot.session_id
        assert got.data == {"type": "transcript", "text": "Grüße"}
        room.send_data(bot.session_id, {"type": "thanks"})
        reply = await next_of(bot_events, DataReceived)
        assert (reply.sender_session_id, reply.sender_user_id) == (
            client.session_id,
            "alice",
        )


async def test_rooms_follow_one_another(site: Site) -> None:
    site.nextcloud.add_room("second")
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    async with AsyncExitStack() as stack:
        await enter_as(stack, site.server.url, alice)
        bot = await stack.enter_async_context(connect(site.server.url, bot_auth(site)))
        async with bot.join(ROOM) as first:
            await wait_until(bot, lambda: first.participants)
            with pytest.raises(UsageError, match="leave the current room"):
                async with bot.join("second"):
                    raise AssertionError("two rooms at once")
            assert first.joined
        async with bot.join("second") as second:
            assert second.joined and not first.joined
            assert bot.status().room_token == "second"
        # At once again, and with everything in its place.
        async with bot.join(ROOM) as again:
            await wait_until(bot, lambda: again.participants)
            assert again.joined and not first.joined and first.participants == {}
            assert [one.user_id for one in again.participants.values()] == ["alice"]


async def test_a_wrong_secret_is_named_and_can_be_repaired(
    server_kind: ServerKind,
) -> None:
    async with open_restartable(server_kind, secret="another-secret") as server:
        with anyio.fail_after(10), pytest.raises(InternalSecretRefused) as caught:
            async with connect(server.url, server.bot_auth):
                raise AssertionError("the secret is wrong")
        assert "[clients]" in str(caught.value) and SECRET not in str(caught.value)

        async with connect(server.url, server.bot_auth, wait_s=None) as bot:
            with pytest.raises(InternalSecretRefused):
                await bot.wait_ready(10)
            status = bot.status()
            assert status.phase is Phase.DISCONNECTED
            assert isinstance(status.error, InternalSecretRefused)
            assert status.retry_at is not None
            # Rarely by itself: ten failures would lock the whole address out.
            assert status.retry_at - anyio.current_time() > 150
            with pytest.raises(InternalSecretRefused):
                async with bot.join(ROOM):
                    raise AssertionError("joined without a session")

            await server.stop()
            await server.start(secret=SECRET)
            bot.retry_now()
            async with bot.join(ROOM) as room:
                assert room.joined and bot.status().error is None


async def test_an_unknown_nextcloud_is_named(site: Site) -> None:
    auth = InternalAuth(
        secret=site.server.internal_secret, backend_url="https://elsewhere.example"
    )
    with anyio.fail_after(10), pytest.raises(BackendNotAllowed, match="does not know"):
        async with connect(site.server.url, auth):
            raise AssertionError("the backend is unknown")


async def test_refused_credentials_end_the_session(site: Site) -> None:
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    mallory = site.nextcloud.add_member(ROOM, "mallory", "Mallory")
    forged = type(alice.auth)(
        url=alice.auth.url, user_id="alice", ticket=mallory.auth.ticket
    )
    async with connect(site.server.url, forged, wait_s=None) as client:
        with client.subscribe() as events:
            with pytest.raises(CredentialsRefused):
                await client.wait_ready(10)
            finished = await next_of(events, SessionFinished)
            assert isinstance(finished.error, CredentialsRefused)
            assert [event async for event in events] == []


@pytest.mark.parametrize("room", ["no-such-room", ROOM])
async def test_a_refused_room_leaves_the_session_usable(site: Site, room: str) -> None:
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    async with connect(site.server.url, alice.auth) as client:
        with anyio.fail_after(10), pytest.raises(RoomRefused):
            async with client.join(room, nc_session_id="somebody else's"):
                raise AssertionError("the room does not exist for us")
        async with client.join(ROOM, nc_session_id=alice.nc_session_id) as joined:
            assert joined.joined and client.status().error is None


async def test_a_server_that_comes_late_is_joined_soon(server_kind: ServerKind) -> None:
    async with open_restartable(server_kind) as server:
        await server.stop()
        async with (
            connect(server.url, server.bot_auth, wait_s=None) as bot,
            bot.join(ROOM, wait_s=None) as room,
        ):
            with pytest.raises(ConnectFailed, match="connection refused"):
                await bot.wait_ready(2.0)
            assert not room.joined and bot.status().phase is Phase.DISCONNECTED
            await server.start()
            with anyio.fail_after(5):
                await room.wait_joined(10)
            assert bot.status().error is None


async def test_a_cut_socket_is_resumed(site: Site) -> None:
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(open_link(site.server.url))
        client, _ = await enter_as(stack, site.server.url, alice)
        user_events = stack.enter_context(client.subscribe())
        bot = await stack.enter_async_context(connect(link.url, bot_auth(site)))
        room = await stack.enter_async_context(bot.join(ROOM))
        await wait_until(bot, lambda: room.participants)
        events = stack.enter_context(bot.subscribe())
        before, people = bot.session_id, dict(room.participants)
        link.refusing = True
        await link.cut()
        lost = await next_of(events, Disconnected)
        assert lost.error.retryable and not room.joined
        assert client.session_id is not None
        room.send_data(client.session_id, {"type": "kept", "n": 1})
        room.send_data(client.session_id, {"type": "kept", "n": 2})
        link.refusing = False
        bot.retry_now()
        await next_of(events, SessionResumed)
        for number in (1, 2):
            received = await next_of(user_events, DataReceived)
            assert received.data == {"type": "kept", "n": number}
        assert bot.session_id == before and room.joined
        assert dict(room.participants) == people
        assert _queued(events, RoomJoined, ParticipantLeft, SessionStarted) == []


def _queued(events: EventStream, *kinds: type[SessionEvent]) -> list[SessionEvent]:
    """What a stream holds already, of these kinds."""
    events.end()
    found: list[SessionEvent] = []
    receiver = events._receiver
    while receiver.statistics().current_buffer_used:
        event = receiver.receive_nowait()
        if isinstance(event, kinds):
            found.append(event)
    return found


async def test_a_restarted_server_is_joined_anew(server_kind: ServerKind) -> None:
    async with (
        open_restartable(server_kind) as server,
        connect(server.url, server.bot_auth) as bot,
        bot.join(ROOM) as room,
    ):
        before = bot.session_id
        with bot.subscribe() as events:
            await server.stop()
            await next_of(events, Disconnected)
            await server.start()
            await next_of(events, SessionStarted)
            await next_of(events, RoomJoined)
        assert room.joined and bot.session_id != before


async def test_another_connection_of_the_same_user_takes_over(site: Site) -> None:
    alice = site.nextcloud.add_member(ROOM, "alice", "Alice")
    async with AsyncExitStack() as stack:
        first, first_room = await enter_as(stack, site.server.url, alice)
        events = stack.enter_context(first.subscribe())
        await enter_as(stack, site.server.url, alice)
        finished = await next_of(events, SessionFinished)
        assert isinstance(finished.error, SessionEnded)
        assert finished.error.reason == "room_session_reconnected"
        assert [event async for event in events] == []
        assert not first_room.joined and first.status().phase is Phase.FINISHED
        with pytest.raises(SessionEnded):
            await first_room.wait_joined(1)
        with pytest.raises(UsageError, match="the session is over"):
            async with first.join("second"):
                raise AssertionError("joined without a session")
        # Harmless and bounded.
        for _ in range(3):
            first_room.send_data("somebody", {"type": "late"})
        assert first._session.events() == []


async def test_a_deleted_room_is_left(site: Site) -> None:
    async with connect(site.server.url, bot_auth(site)) as bot:
        async with bot.join(ROOM) as room:
            with bot.subscribe() as events:
                await site.nextcloud.room_api.delete(ROOM)
                left = await next_of(events, RoomLeft)
            assert left.room_token == ROOM and not room.joined
            with pytest.raises(SessionEnded, match="put out"):
                await room.wait_joined(1)
            # The block of the old room is still open, and must not disturb.
            async with bot.join("another") as another:
                assert another.joined
        assert bot.status().phase is Phase.READY
