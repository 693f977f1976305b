"""The handshake against every kind of server, in virtual time."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import anyio
import pytest

from kyutai_gateway.probe import Probe, ProbeResult, Verdict
from kyutai_stream import ConnectRequest
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.testing.moshi_server import (
    STT_2_6B,
    ConnectionPlan,
    FakeMoshiServer,
    Model,
)
from kyutai_stream.testing.virtual_time import VirtualTimeLoop


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


@pytest.fixture
async def server() -> AsyncIterator[FakeMoshiServer]:
    async with FakeMoshiServer(Model(batch_size=2)) as running:
        yield running


def probe(server: FakeMoshiServer, **changes: str) -> Probe:
    return Probe(
        url=changes.get("url", server.url),
        api_key=changes.get("api_key", "public_token"),
        model=changes.get("model", "stt-1b-en_fr"),
        ready_timeout_s=5.0,
    )


async def ask(server: FakeMoshiServer, **changes: str) -> ProbeResult:
    with anyio.fail_after(21):
        return await probe(server, **changes).run()


async def test_alive_means_ready_and_a_step(server: FakeMoshiServer) -> None:
    assert await ask(server) == ProbeResult(verdict=Verdict.ALIVE)
    (connection,) = server.connections
    assert connection.steps == 1
    await server.wait_until(lambda: server.used_slots == 0)


async def test_ready_alone_is_not_enough(server: FakeMoshiServer) -> None:
    server.plan_next(ConnectionPlan(half_open_after_frames=1))
    begun = anyio.current_time()
    result = await ask(server)
    assert result.verdict is Verdict.SILENT and "no step within 5 s" in result.reason
    assert 5 <= anyio.current_time() - begun < 8


async def test_a_dead_model_loop_is_silent(server: FakeMoshiServer) -> None:
    server.wedge()
    result = await ask(server)
    assert result.verdict is Verdict.SILENT
    assert "its model was not ready within 5 s" in result.reason


@pytest.mark.parametrize(
    "plan",
    [
        ConnectionPlan(accept_delay_s=60.0),
        ConnectionPlan(status=500),
        ConnectionPlan(cut_after_frames=0),
        ConnectionPlan(cut_after_frames=1),
        # Places are free, it says itself: then it is no lack of places.
        ConnectionPlan(close_at_once=1005),
        ConnectionPlan(full=True),
    ],
)
async def test_whatever_else_goes_wrong_is_silent(
    server: FakeMoshiServer, plan: ConnectionPlan
) -> None:
    server.plan_next(plan)
    assert (await ask(server)).verdict is Verdict.SILENT
    assert (await ask(server)).verdict is Verdict.ALIVE


async def test_nobody_there_is_silent(server: FakeMoshiServer) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{one.getsockname()[1]}"
        assert (await ask(server, url=url)).verdict is Verdict.SILENT


async def test_full_is_not_dead(server: FakeMoshiServer) -> None:
    backend = MoshiServerBackend(url=server.url)
    async with backend.connect(ConnectRequest()), backend.connect(ConnectRequest()):
        result = await ask(server)
    assert result.verdict is Verdict.FULL
    assert result.reason == "moshi-server has no free channels"


async def test_a_wrong_key_is_a_mistake(server: FakeMoshiServer) -> None:
    result = await ask(server, api_key="s3cret")
    assert result.verdict is Verdict.WRONG
    assert "401" in result.reason and "s3cret" not in result.reason


async def test_a_wrong_path_is_a_mistake(server: FakeMoshiServer) -> None:
    url = server.url.replace("asr-streaming", "tts_streaming")
    assert (await ask(server, url=url)).verdict is Verdict.WRONG


async def test_garbage_is_a_mistake(server: FakeMoshiServer) -> None:
    server.plan_next(ConnectionPlan(garbage_after_frames=1))
    assert (await ask(server)).verdict is Verdict.WRONG


async def test_a_model_without_steps_is_alive_when_ready() -> None:
    async with FakeMoshiServer(STT_2_6B) as server:
        assert (await ask(server, model="stt-2.6b-en")).verdict is Verdict.ALIVE
        server.wedge()
        assert (await ask(server, model="stt-2.6b-en")).verdict is Verdict.SILENT


async def test_waits_until_its_place_is_free(server: FakeMoshiServer) -> None:
    one = probe(server)
    await one.run()
    await one.release(0)
    assert server.used_slots == 0


async def test_does_not_wait_for_ever_for_its_place(server: FakeMoshiServer) -> None:
    async with MoshiServerBackend(url=server.url).connect(ConnectRequest()):
        begun = anyio.current_time()
        await probe(server).release(0)
        assert anyio.current_time() - begun == pytest.approx(2.0, abs=0.5)
    await server.stop_listening()
    await probe(server).release(0)
