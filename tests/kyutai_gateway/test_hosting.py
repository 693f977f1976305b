"""Nobody is served before the model answered, and a dead one ends the container."""

from __future__ import annotations

import functools
import socket
import sys
import threading
from collections.abc import Callable, MutableMapping
from typing import Any

import anyio
import httpx
import pytest

from kyutai_gateway import hosting
from kyutai_gateway._upstream_base import UpstreamBase
from kyutai_gateway.config import from_environment
from kyutai_gateway.hosting import (
    GatewayProcess,
    NotReadyInTime,
    hosted_app,
    proven,
)
from kyutai_gateway.settings import GatewaySettings
from kyutai_gateway.supervisor import UpstreamFailed
from kyutai_gateway.upstream import UpstreamState
from kyutai_stream.testing.moshi_server import FakeMoshiServer

Message = MutableMapping[str, Any]


def environment(url: str, **more: str) -> dict[str, str]:
    given = {"attach_url": url, "auth": "none", "start_timeout_s": "10", **more}
    return {f"KYUTAI_GATEWAY_{name.upper()}": text for name, text in given.items()}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Lifespan:
    """A platform that starts and stops the app."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.stop = anyio.Event()
        self._started = False

    async def receive(self) -> Message:
        if not self._started:
            self._started = True
            return {"type": "lifespan.startup"}
        await self.stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Message) -> None:
        self.said.append(message)

    @property
    def kinds(self) -> list[str]:
        return [str(message["type"]).removeprefix("lifespan.") for message in self.said]


async def eventually(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not holds():  # noqa: ASYNC110  # another process changes it
            await anyio.sleep(0.01)


async def test_the_start_is_complete_when_the_model_answers() -> None:
    async with FakeMoshiServer() as model:
        await model.stop_listening()
        settings = from_environment(
            environment(model.url, probe_interval_s="0.1", ready_timeout_s="0.5")
        )
        life = Lifespan()
        app = hosted_app(settings)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app, {"type": "lifespan"}, life.receive, life.send)
            await anyio.sleep(0.5)
            assert life.kinds == []
            await model.start_listening()
            await eventually(lambda: life.kinds == ["startup.complete"])
            life.stop.set()
        assert life.kinds == ["startup.complete", "shutdown.complete"]


def test_the_app_is_made_where_no_loop_runs_and_says_why_it_cannot_start() -> None:
    # Modal calls the method `serve` before it runs its loop.
    url = f"ws://127.0.0.1:{free_port()}"
    app = hosted_app(from_environment(environment(url, start_timeout_s="1")))

    async def start() -> list[str]:
        life = Lifespan()
        with pytest.raises(NotReadyInTime, match="not ready within 1 s: .*127.0.0.1"):
            await app({"type": "lifespan"}, life.receive, life.send)
        return life.kinds

    assert anyio.run(start) == ["startup.failed"]


class Doomed(UpstreamBase):
    """Becomes ready, and fails for good when told."""

    def __init__(self, settings: GatewaySettings) -> None:
        super().__init__(settings)
        self.fail = anyio.Event()

    async def run(self) -> None:
        self._set(UpstreamState.READY)
        await self.fail.wait()
        self._set(UpstreamState.FAILED, "the GPU is gone")
        raise UpstreamFailed("the GPU is gone")


async def test_a_model_that_cannot_be_brought_back_ends_the_container() -> None:
    given_up = anyio.Event()
    server = Doomed(from_environment(environment("ws://127.0.0.1:1")))
    with anyio.fail_after(20), pytest.raises(UpstreamFailed):
        async with proven(server, timeout_s=5, give_up=given_up.set):
            assert server.state is UpstreamState.READY
            server.fail.set()
            await anyio.sleep_forever()
    assert given_up.is_set()


async def test_one_that_never_was_ready_is_a_failed_start_only() -> None:
    given_up = anyio.Event()
    server = Doomed(from_environment(environment("ws://127.0.0.1:1")))
    server.run = functools.partial(_fail_at_once, server)  # type: ignore[method-assign]
    with anyio.fail_after(20), pytest.raises(UpstreamFailed):
        async with proven(server, timeout_s=5, give_up=given_up.set):
            raise AssertionError("served")
    assert not given_up.is_set()


async def _fail_at_once(server: Doomed) -> None:
    server._set(UpstreamState.FAILED, "no such GPU")
    raise UpstreamFailed("no such GPU")


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


async def test_as_a_process_the_port_opens_when_the_model_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    async with FakeMoshiServer() as model:
        await model.stop_listening()
        more = environment(model.url, port=str(port), probe_interval_s="0.1")
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        process = GatewayProcess()
        await anyio.sleep(1.5)
        assert not listens(port)
        await model.start_listening()
        await eventually(lambda: listens(port))
        # It listens a moment before it minds signals: only then it answers.
        async with httpx.AsyncClient(timeout=20) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/livez")).is_success
        # As Modal's `@exit`: asked, drained, gone without an error.
        assert await anyio.to_thread.run_sync(process.stop) == 0
        assert not listens(port)


async def test_a_container_does_not_outlive_its_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(hosting, "end_container", ended.set)
    monkeypatch.setenv("KYUTAI_GATEWAY_AUTH", "nonsense")
    GatewayProcess()
    assert await anyio.to_thread.run_sync(ended.wait, 20)


async def test_as_a_process_it_says_why_it_cannot_serve() -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    done = await anyio.run_process(
        [sys.executable, "-m", "kyutai_gateway.hosting"],
        env=environment(url, start_timeout_s="1"),
        check=False,
    )
    assert done.returncode == 1
    assert b"not ready within 1 s" in done.stderr
    assert b"Traceback" not in done.stderr
