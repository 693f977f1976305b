"""HTTP routes, credentials and refusals before the upgrade, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from kyutai_gateway.stream import StreamRules
from kyutai_gateway.upstream import UpstreamState

Open = Callable[..., Any]
Hear = Callable[..., Awaitable[list[dict[str, Any]]]]

PAIR = {"auth": "pair", "key": "wk-one", "secret": "ws-two"}


async def get(it: Any, path: str, method: str = "GET", **headers: str) -> Any:
    async with httpx.AsyncClient(base_url=it.serving.http_url, timeout=300) as client:
        return await client.request(method, path, headers=headers)


async def test_ready_means_a_free_place(bench: Open, hear: Hear) -> None:
    async with bench(slots=1) as it:
        assert (await get(it, "/livez")).text == "alive\n"
        answer = await get(it, "/readyz")
        assert (answer.status_code, answer.text) == (200, "ready\n")
        async with it.connect() as socket:
            await hear(socket, 1)
            answer = await get(it, "/readyz")
            assert (answer.status_code, answer.text) == (503, "full\n")
            capacity = (await get(it, "/capacity")).json()
            assert capacity == {"used": 1, "total": 1, "draining": False}
        await it.empty()
        assert (await get(it, "/readyz")).status_code == 200
        for state in UpstreamState:
            it.upstream.state = state
            answer = await get(it, "/readyz")
            ready = state is UpstreamState.READY
            assert answer.status_code == (200 if ready else 503)
            assert answer.text.strip() == state.value
            assert (await get(it, "/livez")).status_code == 200


async def test_warm_waits_until_ready(bench: Open) -> None:
    async with bench(state=UpstreamState.STARTING) as it:

        async def start() -> None:
            await anyio.sleep(12)
            it.upstream.become(UpstreamState.READY)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            answer = await get(it, "/v1/warm")
        assert answer.status_code == 200
        report = answer.json()
        assert report.pop("waited_s") == pytest.approx(12, abs=0.2)
        assert report == {"ready": True, "state": "ready", "model": "fake"}
        assert (await get(it, "/v1/warm")).json()["waited_s"] == 0


async def test_warm_gives_up(bench: Open) -> None:
    rules = StreamRules(warm_wait_s=7)
    async with bench(state=UpstreamState.STARTING, rules=rules) as it:
        before = anyio.current_time()
        answer = await get(it, "/v1/warm")
        assert answer.status_code == 503
        assert answer.json()["state"] == "starting"
        assert anyio.current_time() - before == pytest.approx(7, abs=0.2)
        it.upstream.state = UpstreamState.FAILED
        answer = await get(it, "/v1/warm")
        assert (answer.status_code, answer.json()["waited_s"]) == (503, 0)


async def test_other_paths_and_methods(bench: Open) -> None:
    async with bench() as it:
        assert (await get(it, "/")).status_code == 404
        assert (await get(it, "/v1")).status_code == 404
        answer = await get(it, "/v1/stream")
        assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
        answer = await get(it, "/readyz", "POST")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        answer = await get(it, "/readyz", "HEAD")
        assert (answer.status_code, answer.text) == (200, "")
        assert answer.headers["content-length"] == "6"


async def test_no_such_websocket(bench: Open) -> None:
    async with bench() as it:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(it.url + "s"):
                pass
        assert caught.value.response.status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Modal-Key": "wk-one"},
        {"Modal-Secret": "ws-two"},
        {"Modal-Key": "wk-one", "Modal-Secret": "wrong"},
        {"Modal-Key": "", "Modal-Secret": ""},
        {"Authorization": "Bearer wk-one.wrong"},
        {"Authorization": "Basic wk-one.ws-two"},
    ],
)
async def test_401_before_the_upgrade(headers: dict[str, str], bench: Open) -> None:
    async with bench(**PAIR) as it:
        with pytest.raises(InvalidStatus) as caught:
            async with it.connect(additional_headers=headers):
                pass
        assert caught.value.response.status_code == 401
        assert it.moshi.connections == []
        assert (await get(it, "/v1/warm", **headers)).status_code == 401
        # What probes and scalers ask is open.
        for path in ("/livez", "/readyz", "/capacity", "/metrics"):
            assert (await get(it, path)).status_code == 200
        assert it.gateway.metrics.refused == {"401": 2}


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        (PAIR, {"Modal-Key": "wk-one", "Modal-Secret": "ws-two"}),
        (PAIR, {"modal-key": "wk-one", "modal-secret": "ws-two"}),
        (PAIR, {"Authorization": "bearer wk-one.ws-two"}),
        ({"auth": "bearer", "bearer": "tok"}, {"Authorization": "Bearer tok"}),
        ({"auth": "none"}, {}),
    ],
)
async def test_good_credentials(
    settings: dict[str, str], headers: dict[str, str], bench: Open, hear: Hear
) -> None:
    async with bench(**settings) as it:
        async with it.connect(additional_headers=headers) as socket:
            assert (await hear(socket, 1))[0]["type"] == "ready"
        assert (await get(it, "/v1/warm", **headers)).status_code == 200


async def test_metrics(bench: Open, spoken: Any, hear: Hear) -> None:
    async with bench(slots=2) as it:
        it.upstream.http_url = it.moshi.http_url
        async with it.connect() as socket:
            await socket.send(spoken.samples.astype("<f4").tobytes())
            await socket.send(json.dumps({"type": "flush"}))
            await hear(socket, 8)
            page = (await get(it, "/metrics")).text
        lines = page.splitlines()
        assert "kyutai_gateway_streams 1" in lines
        assert "kyutai_gateway_slots 2" in lines
        assert "kyutai_gateway_words_total 5" in lines
        audio = [one for one in lines if one.startswith("kyutai_gateway_audio_sec")]
        seconds = len(spoken.samples) / 24_000
        assert float(audio[0].split()[1]) == pytest.approx(seconds)
        # Those of the model server come behind.
        assert "asr_open_channels" in page
        await it.empty()
        page = (await get(it, "/metrics")).text
        assert 'kyutai_gateway_streams_ended_total{reason="gone"} 1' in page
        assert "kyutai_gateway_words_total 5" in page
        assert 'kyutai_gateway_step_delay_seconds_bucket{le="+Inf"} 5' in page
        await it.moshi.stop_listening()
        page = (await get(it, "/metrics")).text
        assert "kyutai_gateway_slots 2" in page
        assert "asr_open_channels" not in page
