"""SIGTERM: no new streams, the open ones are told, flushed and closed in time."""

from __future__ import annotations

import json
import logging
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from kyutai_gateway.upstream import UpstreamState
from kyutai_stream.testing.tones import Utterance

from .talk import Hear, Messages, Open, words

pytestmark = pytest.mark.parametrize("way", ["direct", "plain"], indirect=True)


async def test_clients_are_told_flushed_and_closed(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    heard: list[Messages] = []
    async with bench(drain_s=6.0) as it, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(it.connect()) for _ in range(3)]
        for socket in sockets:
            await socket.send(spoken.samples.astype("<f4").tobytes())

        async def listen(socket: Any) -> None:
            heard.append(await hear(socket, 60))

        async def look() -> None:
            await anyio.sleep(1)
            async with httpx.AsyncClient(base_url=it.serving.http_url) as client:
                answer = await client.get("/readyz")
                assert (answer.status_code, answer.text) == (503, "draining\n")
                assert (await client.get("/livez")).status_code == 200
                assert (await client.get("/capacity")).json()["draining"] is True
            async with it.connect() as late:
                messages = await hear(late)
                assert late.close_code == 1012
                assert [one["code"] for one in messages] == ["draining"]

        began = anyio.current_time()
        it.serving.terminate()
        async with anyio.create_task_group() as tasks:
            for socket in sockets:
                tasks.start_soon(listen, socket)
            tasks.start_soon(look)
        assert [socket.close_code for socket in sockets] == [1012] * 3
        with anyio.fail_after(5):
            await it.serving.ended.wait()
        assert anyio.current_time() - began < 7
    for messages in heard:
        kinds = [one["type"] for one in messages]
        assert kinds.count("draining") == 1
        assert words(messages) == spoken.text
        assert messages[-1]["code"] == "draining"


async def test_a_client_that_leaves_ends_the_drain(bench: Open, hear: Hear) -> None:
    async with bench(drain_s=300.0) as it:
        async with it.connect() as socket:
            await hear(socket, 1)
            it.serving.terminate()
            messages = await hear(socket, 5)
            assert messages[-1] == {"type": "draining", "deadline_s": 300.0}
            await socket.send(json.dumps({"type": "eos"}))
            assert (await hear(socket))[-1] == {"type": "end"}
        with anyio.fail_after(5):
            await it.serving.ended.wait()


async def test_a_stalled_model_does_not_hold_the_drain(
    bench: Open, spoken: Utterance, hear: Hear
) -> None:
    async with bench(drain_s=4.0) as it, it.connect() as socket:
        await hear(socket, 1)
        it.moshi.stall()
        await socket.send(spoken.samples.astype("<f4").tobytes())
        began = anyio.current_time()
        it.serving.terminate()
        await hear(socket, 60)
        assert socket.close_code == 1012
        with anyio.fail_after(5):
            await it.serving.ended.wait()
        assert anyio.current_time() - began < 6


async def test_a_stream_that_waits_for_its_model(bench: Open, hear: Hear) -> None:
    async with (
        bench(drain_s=30.0, state=UpstreamState.STARTING) as it,
        it.connect() as socket,
    ):
        await hear(socket, 1)
        it.serving.terminate()
        messages = await hear(socket, 2)
        assert socket.close_code == 1012
        assert [one["type"] for one in messages] == ["draining", "error"]


async def test_a_second_signal_stops_at_once(
    bench: Open, hear: Hear, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with bench(drain_s=300.0) as it, it.connect() as socket:
        await hear(socket, 1)
        it.serving.terminate()
        await hear(socket, 1)
        it.serving.terminate()
        with pytest.raises(ConnectionClosed):
            with anyio.fail_after(5):
                while True:
                    await socket.recv()
        assert socket.close_code == 1012
        with anyio.fail_after(10):
            await it.serving.ended.wait()


async def test_leaving_without_a_drain_closes(bench: Open, hear: Hear) -> None:
    async with AsyncExitStack() as stack:
        opened = bench()
        it = await opened.__aenter__()
        socket = await stack.enter_async_context(it.connect())
        await hear(socket, 1)
        await opened.__aexit__(None, None, None)
        await hear(socket, 5)
        assert socket.close_code == 1012
        assert it.gateway.used == 0
