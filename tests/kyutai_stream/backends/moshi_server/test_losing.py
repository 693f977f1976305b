"""Losing and leaving a connection to moshi-server."""

from __future__ import annotations

import anyio
import pytest
from websockets.asyncio.server import ServerConnection

from kyutai_stream.backend import (
    ConnectRequest,
    Word,
)
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.errors import (
    ConnectionLost,
    ProtocolError,
)

from ..talk import collect
from .servers import FRAME, Serve, deaf_server, say


class TestLosing:
    @pytest.mark.parametrize("code", [1000, 1001, 1011, 1012])
    async def test_a_close_is_a_loss_after_what_came_before(
        self, scripted: Serve, code: int
    ) -> None:
        async def ending(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            await say(connection, "Word", text="secret", start_time=0)
            await connection.close(code, "secret")

        backend = MoshiServerBackend(url=await scripted(ending))
        async with backend.connect(ConnectRequest()) as connection:
            events = await collect(connection, 2)
            assert isinstance(events[1], Word)
            for _ in range(2):
                with pytest.raises(ConnectionLost, match=str(code)) as caught:
                    await collect(connection, 1)
                assert "secret" not in str(caught.value)
            with pytest.raises(ConnectionLost):
                await connection.send(FRAME)

    async def test_an_abrupt_end(self, scripted: Serve) -> None:
        async def crashing(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            await connection.recv()
            connection.transport.abort()

        backend = MoshiServerBackend(url=await scripted(crashing))
        async with backend.connect(ConnectRequest()) as connection:
            await connection.send(FRAME)
            with pytest.raises(ConnectionLost, match="1006"):
                await collect(connection, 2)

    async def test_garbage(self, scripted: Serve) -> None:
        async def babbling(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            await connection.send(b"\xc1secret")

        backend = MoshiServerBackend(url=await scripted(babbling))
        async with backend.connect(ConnectRequest()) as connection:
            with pytest.raises(ProtocolError):
                await collect(connection, 2)

    async def test_a_message_beyond_all_measure(self, scripted: Serve) -> None:
        async def shouting(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            await connection.send(bytes(2 << 20))

        backend = MoshiServerBackend(url=await scripted(shouting))
        async with backend.connect(ConnectRequest()) as connection:
            with pytest.raises(ProtocolError, match="1009"):
                await collect(connection, 2)

    async def test_half_open_is_noticed(self, scripted: Serve) -> None:
        backend = MoshiServerBackend(url=await scripted(deaf_server))
        async with backend.connect(ConnectRequest()) as connection:
            began = anyio.current_time()
            with pytest.raises(ConnectionLost, match="ping"):
                await collect(connection, 2)
            assert anyio.current_time() - began < 30

    async def test_a_flush_that_nobody_answers(self, scripted: Serve) -> None:
        async def stalled(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            async for _ in connection:
                pass

        backend = MoshiServerBackend(url=await scripted(stalled))
        async with (
            backend.connect(ConnectRequest()) as connection,
            anyio.create_task_group() as tasks,
        ):

            async def flush() -> None:
                # The reader already waits, without a deadline.
                await anyio.sleep(5)
                await connection.send(FRAME)
                await connection.request_flush(1)

            tasks.start_soon(flush)
            began = anyio.current_time()
            with pytest.raises(ConnectionLost, match="no step"):
                await collect(connection, 2)
            assert anyio.current_time() - began == pytest.approx(15, abs=1)


class TestLeaving:
    async def test_a_dead_peer_does_not_hold_it_up(self, scripted: Serve) -> None:
        backend = MoshiServerBackend(url=await scripted(deaf_server))
        async with backend.connect(ConnectRequest()) as connection:
            with anyio.move_on_after(5) as scope:
                while True:
                    await connection.send(FRAME)
            assert scope.cancelled_caught
            began = anyio.current_time()
        assert anyio.current_time() - began <= 2.5

    async def test_nor_when_cancelled(self, scripted: Serve) -> None:
        backend = MoshiServerBackend(url=await scripted(deaf_server))
        began = anyio.current_time()
        with anyio.move_on_after(1):
            async with backend.connect(ConnectRequest()) as connection:
                async for _ in connection:
                    pass
        assert anyio.current_time() - began <= 3.5

    async def test_a_reader_who_was_behind_leaves_politely(
        self, scripted: Serve
    ) -> None:
        codes: list[int | None] = []

        async def chatty(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            for _ in range(500):
                await say(connection, "Word", text="x" * 2000, start_time=0)
            await connection.wait_closed()
            codes.append(connection.close_code)

        backend = MoshiServerBackend(url=await scripted(chatty))
        async with backend.connect(ConnectRequest()):
            await anyio.sleep(1)
            began = anyio.current_time()
        assert anyio.current_time() - began < 1
        await anyio.sleep(0.1)
        assert codes == [1000]

    async def test_who_does_not_read_holds_the_server_up(self, scripted: Serve) -> None:
        said = 0

        async def chatty(connection: ServerConnection) -> None:
            nonlocal said
            await say(connection, "Ready")
            while said < 100_000:
                await say(connection, "Word", text="x" * 50_000, start_time=0)
                said += 1

        backend = MoshiServerBackend(url=await scripted(chatty))
        async with backend.connect(ConnectRequest()) as connection:
            await anyio.sleep(5)
            before = said
            await anyio.sleep(5)
            assert said == before < 1_000
            await collect(connection, before)
            await anyio.sleep(1)
            assert said > before
