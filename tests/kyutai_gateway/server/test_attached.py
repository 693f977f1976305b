"""A server that somebody else runs, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from kyutai_gateway.attached import AttachedServer
from kyutai_gateway.config import GatewaySettings
from kyutai_gateway.servers import server_for
from kyutai_gateway.upstream import Upstream, UpstreamState
from kyutai_stream import CapacityError, ConnectRequest
from kyutai_stream.testing.moshi_server import ConnectionPlan, FakeMoshiServer, Model
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

REQUEST = ConnectRequest()


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


@pytest.fixture
async def server() -> AsyncIterator[FakeMoshiServer]:
    async with FakeMoshiServer(Model(batch_size=4), keys=["k3y"]) as running:
        yield running


def attached(server: FakeMoshiServer, **changes: Any) -> AttachedServer:
    given: dict[str, Any] = {
        "auth": "none",
        "attach_url": server.url,
        "attach_api_key": "k3y",
        "slots": 4,
        **changes,
    }
    made = server_for(GatewaySettings(**given))
    assert isinstance(made, AttachedServer)
    return made


async def until(condition: Callable[[], bool], timeout_s: float = 100.0) -> None:
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.1)


async def test_ready_after_a_probe(server: FakeMoshiServer) -> None:
    async with attached(server) as running:
        upstream: Upstream = running
        assert running.state is UpstreamState.STARTING
        with anyio.fail_after(5):
            await upstream.wait_ready()
        assert (upstream.slots, upstream.model) == (4, "stt-1b-en_fr")
        assert running.http_url == server.http_url
        async with upstream.backend.connect(REQUEST) as connection:
            await anext(aiter(connection))
    await server.wait_until(lambda: server.used_slots == 0)


async def test_wedged_until_a_probe_succeeds(server: FakeMoshiServer) -> None:
    async with attached(server) as running:
        await running.wait_ready()
        server.wedge()
        # The next regular probe comes within 30 s and waits for 5 s.
        await until(lambda: running.state is UpstreamState.WEDGED, 36)
        assert "not ready" in running.problem
        await server.restart()
        await until(lambda: running.state is UpstreamState.READY, 11)
        assert running.problem == ""


async def test_gone_and_back(server: FakeMoshiServer) -> None:
    async with attached(server, probe_interval_s=2.0) as running:
        await running.wait_ready()
        await server.restart(down_s=20.0)
        assert running.state is not UpstreamState.READY
        with anyio.fail_after(8):
            await running.wait_ready()
        assert running.restarts == 0


async def test_a_suspicion_is_looked_into_at_once(server: FakeMoshiServer) -> None:
    async with attached(server, probe_interval_s=3600.0) as running:
        await running.wait_ready()
        server.wedge()
        running.suspect()
        await until(lambda: running.state is UpstreamState.WEDGED, 6)


async def test_suspicions_do_not_become_a_flood(server: FakeMoshiServer) -> None:
    async with attached(server, probe_interval_s=3600.0) as running:
        await running.wait_ready()
        before = len(server.connections)
        for _ in range(1000):
            running.suspect()
            await anyio.sleep(0.01)
        assert 5 <= len(server.connections) - before <= 11


async def test_probes_again_and_again(server: FakeMoshiServer) -> None:
    async with attached(server, probe_interval_s=10.0) as running:
        await running.wait_ready()
        await anyio.sleep(100)
    assert 9 <= len(server.connections) <= 12


async def test_leaves_the_last_places_to_streams(server: FakeMoshiServer) -> None:
    async with attached(server, probe_interval_s=1.0) as running:
        await running.wait_ready()
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                await tasks.start(_hold, running)
            before = len(server.connections)
            await anyio.sleep(20)
            assert len(server.connections) == before
            tasks.cancel_scope.cancel()
        await anyio.sleep(5)
        assert len(server.connections) > before


async def _hold(
    running: AttachedServer, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    async with running.backend.connect(REQUEST) as connection:
        task_status.started()
        async for _ in connection:
            pass


async def test_full_with_the_streams_of_others_is_not_dead(
    server: FakeMoshiServer,
) -> None:
    async with attached(server, probe_interval_s=1.0) as running:
        await running.wait_ready()
        others = attached(server).backend
        async with (
            others.connect(REQUEST),
            others.connect(REQUEST),
            others.connect(REQUEST),
            others.connect(REQUEST),
        ):
            await anyio.sleep(100)
            assert running.state is UpstreamState.READY
            begun = anyio.current_time()
            with pytest.raises(CapacityError):
                async with running.backend.connect(REQUEST):
                    pass
            # Told at once: it is no place of ours that is about to get free.
            assert anyio.current_time() - begun < 0.05


async def test_a_wrong_key_is_said_and_never_ready(
    server: FakeMoshiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with attached(server, attach_api_key="wr0ng") as running:
        await until(lambda: running.state is UpstreamState.WEDGED)
        assert "keys are wrong" in running.problem
    assert "keys are wrong" in caplog.text and "wr0ng" not in caplog.text


async def test_one_bad_answer_is_forgiven_by_the_next(server: FakeMoshiServer) -> None:
    async with attached(server, probe_interval_s=10.0) as running:
        await running.wait_ready()
        server.plan_next(ConnectionPlan(wedged=True))
        await until(lambda: running.state is UpstreamState.WEDGED, 16)
        await until(lambda: running.state is UpstreamState.READY, 6)


async def test_waits_for_the_probe_where_the_place_is_the_last() -> None:
    async with FakeMoshiServer(Model(batch_size=1), keys=["k3y"], speed=0.1) as server:
        async with attached(server, slots=1, probe_interval_s=1.0) as running:
            await running.wait_ready()
            await server.wait_until(lambda: server.used_slots == 1)
            async with running.backend.connect(REQUEST) as connection:
                await anext(aiter(connection))
