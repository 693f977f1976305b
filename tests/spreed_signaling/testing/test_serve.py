from __future__ import annotations

import time

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from spreed_signaling.testing._serve import AppServer


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def hang(request: Request) -> Response:
    await anyio.sleep_forever()
    raise AssertionError("never reached")


async def echo(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            await ws.send_text(await ws.receive_text())
    except WebSocketDisconnect:
        return


def make_app() -> Starlette:
    return Starlette(
        routes=[Route("/", hello), Route("/hang", hang), WebSocketRoute("/ws", echo)]
    )


def ws_url(server: AppServer) -> str:
    return server.url.replace("http", "ws", 1) + "/ws"


async def test_serves_http_and_websockets() -> None:
    async with AppServer(make_app()) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).text == "hello"
        async with connect(ws_url(server)) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"


async def test_port_is_free_again_at_once() -> None:
    async with AppServer(make_app()) as first:
        port = first.port
        async with connect(ws_url(first)), httpx.AsyncClient() as client:
            await client.get(first.url)
            with pytest.raises(OSError):
                AppServer(make_app(), port=port)
    async with AppServer(make_app(), port=port) as second:
        assert second.port == port


async def test_leaving_closes_open_websockets_with_1012() -> None:
    async with AppServer(make_app()) as server:
        ws = await connect(ws_url(server))
    with pytest.raises(ConnectionClosed) as caught:
        await ws.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1012
    await ws.close()


async def test_abort_cuts_without_a_close_frame() -> None:
    async with AppServer(make_app()) as server:
        ws = await connect(ws_url(server))
        server.abort()
        with pytest.raises(ConnectionClosed) as caught:
            await ws.recv()
        assert caught.value.rcvd is None


async def test_a_hanging_request_does_not_hold_up_leaving() -> None:
    async with anyio.create_task_group() as tasks, httpx.AsyncClient() as client:

        async def ask() -> None:
            with pytest.raises(httpx.TransportError):
                await client.get(f"{server.url}/hang", timeout=30)

        async with AppServer(make_app()) as server:
            tasks.start_soon(ask)
            await client.get(server.url)
            started = time.monotonic()
        assert time.monotonic() - started < 5


async def test_the_body_keeps_its_own_error() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with AppServer(make_app()):
            raise LookupError("mine")


async def test_cancelling_the_body_shuts_down_and_frees_the_port() -> None:
    with anyio.move_on_after(0.05) as scope:
        async with AppServer(make_app()) as server:
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    async with AppServer(make_app(), port=server.port):
        pass
