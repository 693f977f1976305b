"""Messages that wake no task: all there, in order, and given up where they must be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest
from anyio.abc import SocketAttribute, SocketStream
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from kyutai_stream.backend import ConnectRequest, Progress, PromptConnection, Word
from kyutai_stream.backends._websocket import DialOptions, Ended, Socket, dial
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.errors import ConnectionLost
from kyutai_stream.testing.moshi_server import (
    FakeMoshiServer,
)
from kyutai_stream.testing.tones import speak

SILENCE = np.zeros(1920, np.float32)
OPTIONS = DialOptions(headers={}, open_timeout_s=5.0)


@asynccontextmanager
async def talking(
    act: Callable[[ServerConnection], object],
) -> AsyncIterator[Socket]:
    """A client's socket to a server that does one thing and then waits."""

    async def handle(connection: ServerConnection) -> None:
        await act(connection)  # type: ignore[misc]  # a coroutine
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        socket = await dial(f"ws://127.0.0.1:{port}", OPTIONS)
        try:
            yield socket
        finally:
            await socket.close()


@pytest.mark.parametrize("size", range(1, 140, 3))
async def test_the_handshake_in_pieces(size: int) -> None:
    """Frames right behind the answer, cut anywhere, are not lost or torn."""

    async def answer(stream: SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await stream.receive()
            key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
            data = (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
                + accept_key(key.decode()).encode()
                + b"\r\n\r\n"
            )
            data += Frame(Opcode.BINARY, b"first").serialize(mask=False)
            data += Frame(Opcode.BINARY, b"second").serialize(mask=False)
            await stream.send(data[:-size])
            await anyio.wait_all_tasks_blocked()
            await stream.send(data[-size:])
            await gone.wait()

    gone = anyio.Event()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer)
            socket = await dial(f"ws://127.0.0.1:{port}", OPTIONS)
            both = [await socket.receive(), await socket.receive()]
            assert both == [b"first", b"second"]
            gone.set()
            await socket.close()
            tasks.cancel_scope.cancel()


async def test_a_fragmented_message_keeps_its_place() -> None:
    async def act(connection: ServerConnection) -> None:
        await connection.send(b"one")
        await connection.send([b"t", b"w", b"o"])
        await connection.send(b"three")
        await connection.send("four")
        await connection.send(b"five")

    heard: list[bytes | str] = []
    async with talking(act) as socket:
        while len(heard) < 5:
            socket.hand_on(heard.append)
            message = await socket.receive()
            heard.append(message)
            if heard[-1] == "four":
                socket.hand_on(None)
    assert heard == [b"one", b"two", b"three", b"four".decode(), b"five"]


async def test_the_end_is_told_to_the_task_that_waits() -> None:
    async def act(connection: ServerConnection) -> None:
        await connection.send(b"last")
        await connection.close(4000)

    heard: list[bytes] = []
    async with talking(act) as socket:
        socket.hand_on(heard.append)
        with pytest.raises(Ended) as ended:
            while True:
                message = await socket.receive()
                assert isinstance(message, bytes)
                heard.append(message)  # It came before the sink was there.
        assert ended.value.code == 4000
        assert heard == [b"last"]
        assert not socket.writable


@asynccontextmanager
async def prompt() -> AsyncIterator[tuple[PromptConnection, FakeMoshiServer]]:
    async with FakeMoshiServer() as server:
        backend = MoshiServerBackend(url=server.url)
        async with backend.connect(ConnectRequest()) as connection:
            assert isinstance(connection, PromptConnection)
            yield connection, server


async def test_a_listener_hears_what_iterating_yields() -> None:
    spoken = speak("alpha bravo charlie")
    whole = len(spoken.samples) // 1920 * 1920
    frames = list(spoken.samples[:whole].reshape(-1, 1920))
    words: list[str] = []
    steps: list[int] = []
    done = anyio.Event()
    async with prompt() as (connection, _):

        def listen(events: Sequence[object]) -> bool:
            for event in events:
                if isinstance(event, Word):
                    words.append(event.text)
                elif isinstance(event, Progress):
                    steps.append(event.frames_processed)
            if len(steps) == len(frames) + 12:
                done.set()
            return len(steps) % 5 != 0  # Now and then the task has its turn.

        connection.hand_on(listen)
        async with anyio.create_task_group() as tasks:

            async def iterate() -> None:
                async for event in connection:
                    listen([event])

            tasks.start_soon(iterate)
            await anyio.wait_all_tasks_blocked()
            for frame in [*frames, *[SILENCE] * 12]:
                connection.send_now(frame)
            with anyio.fail_after(20):
                await done.wait()
            tasks.cancel_scope.cancel()
    assert steps == list(range(1, len(steps) + 1))
    assert " ".join(words) == spoken.text


async def test_what_a_listener_raises_is_raised_by_the_iteration() -> None:
    async with prompt() as (connection, _):

        def broken(_: Sequence[object]) -> bool:
            raise ZeroDivisionError

        connection.hand_on(broken)
        iterator = aiter(connection)
        await anext(iterator)  # Ready
        connection.send_now(SILENCE)
        with anyio.fail_after(10), pytest.raises(ZeroDivisionError):
            await anext(iterator)


async def test_a_lost_server_ends_the_iteration() -> None:
    async with prompt() as (connection, server):
        connection.hand_on(lambda _: True)
        iterator = aiter(connection)
        await anext(iterator)
        server.cut_all()
        with anyio.fail_after(10), pytest.raises(ConnectionLost):
            await anext(iterator)
        assert not connection.writable
