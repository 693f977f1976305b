"""What is answered before the upgrade: credentials, starts, places, pages."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, InvalidURI

from kyutai_stream.testing.gateway import Attempt, Drain, FakeGateway

Hear = Callable[..., Awaitable[list[dict[str, Any]]]]
FRAME = np.zeros(1920, dtype="<f4").tobytes()
KEY, SECRET = "wk-of-the-test", "ws-of-the-test"
CREDENTIALS = {"Modal-Key": KEY, "Modal-Secret": SECRET}


async def get(gateway: FakeGateway, path: str, extra: str = "") -> tuple[int, str]:
    """A plain HTTP request on the loop of the test."""
    async with await anyio.connect_tcp("127.0.0.1", gateway.port) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())
        answer = b""
        try:
            while True:
                answer += await stream.receive()
        except anyio.EndOfStream:
            pass
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body.strip()


async def refused(gateway: FakeGateway, headers: dict[str, str] | None = None) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(gateway.url, additional_headers=headers):
            pass
    return caught.value.response.status_code


async def test_credentials() -> None:
    async with FakeGateway(key=KEY, secret=SECRET) as gateway:
        assert await refused(gateway) == 401
        assert await refused(gateway, {"Modal-Key": KEY, "Modal-Secret": "no"}) == 401
        assert await refused(gateway, {"Authorization": "Bearer no"}) == 401
        bearer = {"Authorization": f"Bearer {KEY}.{SECRET}"}
        for good in (CREDENTIALS, bearer):
            async with connect(gateway.url, additional_headers=good) as socket:
                await socket.recv()
        assert [one.status for one in gateway.handshakes] == [401, 401, 401, 101, 101]
        assert (await get(gateway, "/readyz"))[0] == 401
        told = repr(gateway.connections) + repr(gateway.handshakes)
        assert SECRET not in told
        assert gateway.connections[0].headers["modal-secret"] == SECRET


async def test_a_bearer_token() -> None:
    async with FakeGateway(bearer="of-our-own") as gateway:
        assert await refused(gateway) == 401
        headers = {"Authorization": "Bearer of-our-own"}
        async with connect(gateway.url, additional_headers=headers) as socket:
            await socket.recv()


def test_half_credentials_are_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        FakeGateway(key=KEY)


@pytest.mark.parametrize("status", [403, 404, 429, 503])
async def test_answers_before_the_upgrade(status: int) -> None:
    plan = Attempt(status=status, headers={"Retry-After": "7"})
    async with FakeGateway(attempts=[plan]) as gateway:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(gateway.url):
                pass
        assert caught.value.response.status_code == status
        assert caught.value.response.headers["Retry-After"] == "7"
        async with connect(gateway.url) as socket:
            assert json.loads(await socket.recv())["type"] == "ready"


async def test_a_redirect_after_the_queue_was_too_long() -> None:
    location = "https://example.invalid/v1/stream?__modal_function_call_id=fc-1"
    plan = Attempt(handshake_s=150.0, status=303, headers={"Location": location})
    async with FakeGateway(attempts=[plan]) as gateway:
        began = anyio.current_time()
        with pytest.raises(InvalidURI):
            async with connect(gateway.url, open_timeout=None):
                pass
        assert anyio.current_time() - began == pytest.approx(150, abs=0.1)


async def test_unknown_paths_are_404() -> None:
    async with FakeGateway() as gateway:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(gateway.url + "s"):
                pass
        assert caught.value.response.status_code == 404


async def test_a_cold_function_lets_handshakes_wait(hear: Hear) -> None:
    async with FakeGateway(cold_start_s=60.0) as gateway:
        began = anyio.current_time()
        async with connect(gateway.url, open_timeout=None):
            assert anyio.current_time() - began == pytest.approx(60, abs=0.1)
        async with connect(gateway.url):
            assert anyio.current_time() - began == pytest.approx(60, abs=0.1)


async def test_a_cold_server_answers_503_until_it_is_warm() -> None:
    async with FakeGateway(cold_start_s=60.0, edge="server") as gateway:
        assert await get(gateway, "/v1/warm") == (503, "starting")
        assert await refused(gateway) == 503
        await anyio.sleep(61)
        assert await get(gateway, "/v1/warm") == (200, '{"ready": true}')
        async with connect(gateway.url):
            pass


async def test_a_cold_function_lets_pages_wait() -> None:
    async with FakeGateway(cold_start_s=60.0) as gateway:
        began = anyio.current_time()
        assert await get(gateway, "/v1/warm") == (200, '{"ready": true}')
        assert anyio.current_time() - began == pytest.approx(60, abs=0.1)
        assert (await get(gateway, "/readyz"))[0] == 200


async def test_older_gateways_have_no_page_to_warm_them() -> None:
    async with FakeGateway("gen3", cold_start_s=60.0) as gateway:
        assert (await get(gateway, "/v1/warm"))[0] == 404
        # It runs now all the same.
        assert (await get(gateway, "/readyz"))[0] == 200


async def test_leaving_ends_a_handshake_that_waits() -> None:
    async with anyio.create_task_group() as tasks:
        async with FakeGateway(cold_start_s=1000.0) as gateway:

            async def client() -> None:
                with pytest.raises(InvalidStatus):
                    async with connect(gateway.url, open_timeout=None):
                        pass

            tasks.start_soon(client)
            await anyio.sleep(1)
            assert gateway.handshakes[0].status is None
            began = anyio.current_time()
        assert anyio.current_time() - began < 10


async def test_capacity(hear: Hear) -> None:
    async with FakeGateway(slots=1) as gateway, connect(gateway.url) as first:
        await first.recv()
        async with connect(gateway.url) as second:
            (error,) = await hear(second)
            assert second.close_code == 1013
        assert (error["code"], error["retryable"]) == ("capacity", True)
        assert json.loads((await get(gateway, "/capacity"))[1]) == {
            "used": 1,
            "total": 1,
            "draining": False,
        }
        assert await get(gateway, "/readyz") == (503, "full")
        await first.close()
        await gateway.connections[0].wait_ended()
        async with connect(gateway.url) as third:
            assert json.loads(await third.recv())["type"] == "ready"


async def test_a_full_server_answers_429() -> None:
    gateway = FakeGateway(slots=1, edge="server")
    async with gateway, connect(gateway.url) as first:
        await first.recv()
        assert await refused(gateway) == 429


async def test_health_routes() -> None:
    async with FakeGateway() as gateway:
        assert await get(gateway, "/livez") == (200, "alive")
        assert await get(gateway, "/readyz") == (200, "ready")
        assert (await get(gateway, "/nowhere"))[0] == 404
        gateway.drain(Drain())
        assert await get(gateway, "/readyz") == (503, "draining")
        assert gateway.requests == ["/livez", "/readyz", "/nowhere", "/readyz"]
        assert gateway.handshakes == []
