"""Clients against both kinds of server: sessions, rooms, trouble, the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import anyio.lowlevel
import pytest

from spreed_signaling import (
    BackendNotAllowed,
    Client,
    ClientOptions,
    ConnectFailed,
    CredentialsRefused,
    DataReceived,
    Disconnected,
    EventsLagged,
    InCallFlags,
    InternalAuth,
    InternalSecretRefused,
    ParticipantJoined,
    ParticipantLeft,
    Phase,
    RequestErrored,
    Room,
    RoomJoined,
    RoomLeft,
    RoomRefused,
    SessionEnded,
    SessionEvent,
    SessionFinished,
    SessionOptions,
    SessionResumed,
    SessionStarted,
    TransportOptions,
    UsageError,
    connect,
)
from spreed_signaling._events import EventStream
from spreed_signaling.testing import (
    EmbeddedHpb,
    Member,
    ServerKind,
    Site,
    StandInNextcloud,
)

from .harness import (
    ROOM,
    SECRET,
    free_port,
    next_of,
    no_leaks,
    open_link,
    open_restartable,
    wait_until,
)


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


# From here on the server's kind makes no difference.


@pytest.fixture
async def hpb() -> AsyncIterator[EmbeddedHpb]:
    async with (
        StandInNextcloud() as nextcloud,
        EmbeddedHpb(
            backend_url=nextcloud.url,
            backend_secret=nextcloud.backend_secret,
            internal_secret=SECRET,
        ) as hpb,
    ):
        yield hpb


def auth_for(hpb: EmbeddedHpb) -> InternalAuth:
    return InternalAuth(secret=SECRET, backend_url=hpb._backend_url)


class TestLeaving:
    async def test_a_cancelled_application_says_goodbye_at_once(
        self, hpb: EmbeddedHpb
    ) -> None:
        started = anyio.current_time()
        with anyio.move_on_after(0.5):
            async with connect(hpb.url, auth_for(hpb)) as bot, bot.join(ROOM):
                assert len(hpb.sessions) == 1
                await anyio.sleep_forever()
        # Without the goodbye the session would stay for 30 s.
        assert hpb.sessions == ()
        assert anyio.current_time() - started < 4

    async def test_an_error_of_the_application_comes_out_as_it_is(
        self, hpb: EmbeddedHpb
    ) -> None:
        with pytest.raises(ZeroDivisionError):
            async with connect(hpb.url, auth_for(hpb)) as bot, bot.join(ROOM):
                raise ZeroDivisionError
        assert hpb.sessions == ()
        with pytest.raises(ExceptionGroup) as caught:
            async with connect(hpb.url, auth_for(hpb)):
                raise ExceptionGroup("ours", [ZeroDivisionError()])
        assert caught.value.message == "ours"

    async def test_leaving_while_connecting_does_not_wait(self) -> None:
        """The server accepts connections and never answers."""
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra_attributes[anyio.abc.SocketAttribute.local_port]()
            auth = InternalAuth(secret=SECRET, backend_url="http://127.0.0.1")
            with anyio.fail_after(5), no_leaks():
                async with connect(
                    f"http://127.0.0.1:{port}", auth, wait_s=None
                ) as bot:
                    with pytest.raises(ConnectFailed, match=r"no session within 0\.2"):
                        await bot.wait_ready(0.2)
                await anyio.lowlevel.checkpoint()

    async def test_nothing_is_left_behind(self, hpb: EmbeddedHpb) -> None:
        async with connect(hpb.url, auth_for(hpb)) as bot, bot.join(ROOM):
            pass
        await _quiet(hpb)
        with no_leaks():
            for _ in range(3):
                async with connect(hpb.url, auth_for(hpb)) as bot, bot.join(ROOM):
                    pass
            await _quiet(hpb)

    async def test_streams_end_with_the_client(self, hpb: EmbeddedHpb) -> None:
        async with connect(hpb.url, auth_for(hpb)) as bot:
            events = bot.subscribe()
        with events:
            kinds = [type(event) async for event in events]
        assert kinds == [SessionFinished]
        with bot.subscribe() as late:
            assert [event async for event in late] == []


async def _quiet(hpb: EmbeddedHpb) -> None:
    """Wait until the server, which shares our loop, has let go of its sockets."""
    with anyio.fail_after(5):
        while hpb.sessions or hpb._hub.links:
            await anyio.lowlevel.checkpoint()
    # Its own tasks end a few turns of the loop later.
    for _ in range(100):
        await anyio.lowlevel.checkpoint()


class TestMessages:
    async def test_what_cannot_be_sent_in_time_is_reported(self) -> None:
        auth = InternalAuth(secret=SECRET, backend_url="http://127.0.0.1")
        url = f"http://127.0.0.1:{free_port()}"
        async with (
            connect(url, auth, wait_s=None) as bot,
            bot.join(ROOM, wait_s=None) as room,
        ):
            with bot.subscribe() as events:
                kept = room.send_data("somebody", {"type": "x"}, keep_s=0.3)
                at_once = room.send_data("somebody", {"type": "x"}, keep_s=0)
                first = await next_of(events, RequestErrored)
                second = await next_of(events, RequestErrored)
            assert (first.request_id, second.request_id) == (at_once, kept)
            assert first.error.code == second.error.code == "not_connected"

    async def test_also_while_a_connection_attempt_hangs(self) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra_attributes[anyio.abc.SocketAttribute.local_port]()
            auth = InternalAuth(secret=SECRET, backend_url="http://127.0.0.1")
            url = f"http://127.0.0.1:{port}"
            async with (
                connect(url, auth, wait_s=None) as bot,
                bot.join(ROOM, wait_s=None) as room,
            ):
                with bot.subscribe() as events:
                    sent = room.send_data("somebody", {"type": "x"}, keep_s=0.2)
                    errored = await next_of(events, RequestErrored, timeout_s=4)
                assert errored.request_id == sent

    async def test_what_is_no_message_is_our_callers_mistake(
        self, hpb: EmbeddedHpb
    ) -> None:
        async with connect(hpb.url, auth_for(hpb)) as bot, bot.join(ROOM) as room:
            with pytest.raises(UsageError, match="too large"):
                room.send_data("somebody", {"type": "x", "text": "x" * 65536})
            with pytest.raises(UsageError):
                room.send_data("somebody", {"type": "x", "text": object()})
            assert room.joined


class TestTrouble:
    async def test_a_half_open_connection_is_noticed(self, hpb: EmbeddedHpb) -> None:
        options = ClientOptions(
            transport=TransportOptions(
                ping_interval_s=0.3, close_timeout_s=0.2, open_timeout_s=0.5
            )
        )
        async with (
            open_link(hpb.url) as link,
            connect(link.url, auth_for(hpb), options=options) as bot,
            bot.join(ROOM) as room,
        ):
            before = bot.session_id
            with bot.subscribe() as events:
                link.silence()
                await next_of(events, Disconnected)
                link.unsilence()
                await next_of(events, SessionResumed)
            assert room.joined and bot.session_id == before

    async def test_what_a_stuck_socket_did_not_take_goes_over_the_next(
        self, hpb: EmbeddedHpb
    ) -> None:
        async with (
            open_link(hpb.url) as link,
            connect(hpb.url, auth_for(hpb)) as receiver,
            receiver.join(ROOM),
            connect(link.url, auth_for(hpb)) as sender,
            sender.join(ROOM) as room,
        ):
            assert receiver.session_id is not None
            with receiver.subscribe() as received, sender.subscribe() as events:
                link.silence()
                for number in range(200):
                    data = {"type": "x", "n": number, "text": "x" * 60_000}
                    room.send_data(receiver.session_id, data, keep_s=30)
                # More than all buffers on the way hold.
                for _ in range(1_000):
                    await anyio.lowlevel.checkpoint()
                await link.cut()
                link.unsilence()
                await next_of(events, SessionResumed)
                first = (await next_of(received, DataReceived)).data["n"]
                assert 0 <= first < 199
                for number in range(first + 1, 200):
                    assert (await next_of(received, DataReceived)).data["n"] == number

    async def test_a_server_that_never_answers_the_hello(self) -> None:
        """The socket opens, and that is all: the status must say what is wrong."""
        from websockets.asyncio.server import ServerConnection, serve

        async def ignore(connection: ServerConnection) -> None:
            await connection.wait_closed()

        options = ClientOptions(session=SessionOptions(hello_timeout_s=0.3))
        auth = InternalAuth(secret=SECRET, backend_url="http://127.0.0.1")
        async with serve(ignore, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            async with connect(url, auth, options=options, wait_s=None) as bot:
                with bot.subscribe() as events:
                    lost = await next_of(events, Disconnected)
                assert "opening a session" in str(lost.error)
                assert "closed by us" not in str(bot.status().error)

    async def test_a_slow_consumer_of_events_is_told(self, hpb: EmbeddedHpb) -> None:
        options = ClientOptions(event_limit=2)
        async with connect(hpb.url, auth_for(hpb), options=options) as bot:
            with bot.subscribe() as slow:
                for _ in range(4):
                    async with bot.join(ROOM):
                        pass
                with pytest.raises(EventsLagged):
                    async for _ in slow:
                        pass
            # Others are not affected.
            with bot.subscribe() as events:
                async with bot.join(ROOM):
                    assert isinstance(await anext(events), RoomJoined)
