"""The gateway behind Modal's own wrapper of ASGI apps, of the pinned version.

It is not public, and decides what a stream on Modal is: queues of one message in both
directions, a disconnect without a code, and tasks that are cancelled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream

pytest.importorskip("modal")

from modal._runtime.asgi import asgi_app_wrapper
from modal._runtime.execution_context import _set_current_context_ids

from kyutai_gateway.app import Gateway, create_app
from kyutai_gateway.config import from_environment
from kyutai_gateway.servers import server_for
from kyutai_stream.testing.moshi_server import FakeMoshiServer
from kyutai_stream.testing.tones import speak

SAID = speak("alpha bravo charlie")
wrapper: Any = asgi_app_wrapper


class Inputs:
    """Where Modal's wrapper fetches what a client sends."""

    def __init__(self, messages: MemoryObjectReceiveStream[dict[str, Any]]) -> None:
        self.get_data_in = self
        self._messages = messages

    async def aio(self, *_: str) -> AsyncGenerator[dict[str, Any], None]:
        async for message in self._messages:
            yield message


class Client:
    """A websocket as it comes out of Modal's network."""

    def __init__(self, app: Gateway, path: str = "/v1/stream") -> None:
        self._send, messages = anyio.create_memory_object_stream[dict[str, Any]](1000)
        self._app = app
        self._messages = messages
        self._inputs = Inputs(messages)
        self._path = path
        self.said: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Be one input of a container."""
        _set_current_context_ids(["in-1"], ["fc-1"], ["at-1"])
        fn, _ = wrapper(self._app, self._inputs)
        scope = {"type": "websocket", "path": self._path, "headers": []}
        with self._messages, self._send:
            async for message in fn(scope):
                self.said.append(message)

    def send(self, kind: str, **fields: object) -> None:
        self._send.send_nowait({"type": f"websocket.{kind}", **fields})

    @property
    def texts(self) -> list[dict[str, Any]]:
        return [json.loads(one["text"]) for one in self.said if "text" in one]

    def kinds(self) -> list[str]:
        return [text["type"] for text in self.texts]


@asynccontextmanager
async def gateway() -> AsyncIterator[tuple[Gateway, FakeMoshiServer]]:
    async with FakeMoshiServer(speed=20) as model:
        settings = from_environment(
            {
                "KYUTAI_GATEWAY_ATTACH_URL": model.url,
                "KYUTAI_GATEWAY_AUTH": "none",
                "KYUTAI_GATEWAY_SLOTS": "1",
            }
        )
        async with server_for(settings) as upstream:
            with anyio.fail_after(20):
                await upstream.wait_ready()
            yield create_app(settings, upstream), model


async def until(holds: Any) -> None:
    with anyio.fail_after(20):
        while not holds():  # noqa: ASYNC110  # Modal's wrapper tells nobody
            await anyio.sleep(0.01)


async def test_a_conversation_and_its_close() -> None:
    async with gateway() as (app, _):
        client = Client(app)
        client.send("connect")
        audio = SAID.samples.astype("<f4").tobytes()
        for begin in range(0, len(audio), 7000):
            client.send("receive", bytes=audio[begin : begin + 7000])
        client.send("receive", text='{"type":"eos"}')
        with anyio.fail_after(20):
            await client.run()
    assert client.said[0]["type"] == "websocket.accept"
    words = [one["text"].strip() for one in client.texts if one["type"] == "token"]
    assert words == SAID.text.split()
    assert client.kinds()[-1] == "end"
    assert client.said[-1]["type"] == "websocket.close"
    assert client.said[-1]["code"] == 1000


async def test_a_disconnect_without_a_code_gives_the_place_free() -> None:
    async with gateway() as (app, model):
        client = Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            client.send("connect")
            await until(lambda: "ready" in client.kinds())
            assert (app.used, model.used_slots) == (1, 1)
            client.send("disconnect")
            await until(lambda: (app.used, model.used_slots) == (0, 0))


async def test_a_cancelled_input_gives_the_place_free() -> None:
    # The time limit, or a container that is taken away.
    async with gateway() as (app, model):
        client = Client(app)
        # As Modal does it: cancelled once, not until it ends as anyio would.
        task = asyncio.ensure_future(client.run())  # noqa: TID251
        client.send("connect")
        await until(lambda: "ready" in client.kinds())
        task.cancel()
        await until(lambda: (app.used, model.used_slots) == (0, 0))
        await task
    # Nothing can be said any more.
    assert client.kinds()[-1] != "error"


async def test_one_too_many_is_refused_with_a_code() -> None:
    async with gateway() as (app, _):
        first, second = Client(app), Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            first.send("connect")
            await until(lambda: "ready" in first.kinds())
            second.send("connect")
            with anyio.fail_after(20):
                await second.run()
            first.send("disconnect")
    (told,) = second.texts
    assert (told["type"], told["code"]) == ("error", "capacity")
    assert second.said[-1]["code"] == 1013


async def test_an_input_that_never_says_anything_ends() -> None:
    async with gateway() as (app, _):
        client = Client(app)
        client._send.close()
        with anyio.fail_after(20), suppress(Exception):
            await client.run()
        assert app.used == 0
