"""Leaving, messages that wait, sockets that fail: alike with every server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from spreed_signaling import (
    ClientOptions,
    ConnectFailed,
    DataReceived,
    Disconnected,
    EventsLagged,
    InternalAuth,
    RequestErrored,
    RoomJoined,
    SessionFinished,
    SessionOptions,
    SessionResumed,
    TransportOptions,
    UsageError,
    connect,
)
from spreed_signaling.testing import EmbeddedHpb, StandInNextcloud

from .harness import ROOM, SECRET, free_port, next_of, no_leaks, open_link


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
