"""Waking a gateway before it is needed, on the fake gateway in virtual time."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from kyutai_stream import Warmable
from kyutai_stream.backend import ConnectRequest
from kyutai_stream.backends.activity import ActivityBackend
from kyutai_stream.backends.fallback import Fallback
from kyutai_stream.backends.modal import ModalBackend
from kyutai_stream.errors import AuthError, ConfigError, ConnectFailed
from kyutai_stream.testing import FakeGateway
from kyutai_stream.testing.gateway import DialectName

NOBODY = "ws://127.0.0.1:9"
"""A port of the reserved range."""


@asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that says the same to everybody; its address, and what it was asked."""
    asked: list[str] = []

    async def answer(stream: SocketStream) -> None:
        async with stream:
            asked.append((await stream.receive()).decode(errors="replace"))
            # It need not come in one piece.
            for byte in reply:
                await stream.send(bytes([byte]))

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, answer)
        yield f"ws://127.0.0.1:{listener.extra(SocketAttribute.local_port)}", asked
        tasks.cancel_scope.cancel()


async def test_it_waits_until_the_model_is_ready() -> None:
    async with FakeGateway(key="wk-1", secret="ws-1", cold_start_s=60) as gateway:
        backend = ModalBackend(url=gateway.url, key="wk-1", secret="ws-1")
        assert isinstance(backend, Warmable)
        began = anyio.current_time()
        assert await backend.warm()
        assert anyio.current_time() - began == pytest.approx(60, abs=0.1)
        assert gateway.requests == ["/v1/warm"]
        async with backend.connect(ConnectRequest()):
            assert anyio.current_time() - began == pytest.approx(60, abs=0.1)


async def test_a_server_that_does_not_let_wait_is_woken() -> None:
    async with FakeGateway(cold_start_s=60, edge="server") as gateway:
        backend = ModalBackend(url=gateway.url)
        assert await backend.warm() is False
        await anyio.sleep(61)
        assert await backend.warm() is True


@pytest.mark.parametrize("dialect", ["gen1", "gen2", "gen3", "document"])
async def test_older_gateways_are_woken_too(dialect: DialectName) -> None:
    async with FakeGateway(dialect, cold_start_s=60) as gateway:
        assert await ModalBackend(url=gateway.url, dialect=dialect).warm() is False
        began = anyio.current_time()
        async with ModalBackend(url=gateway.url).connect(ConnectRequest()):
            # Only `auto`'s own patience.
            assert anyio.current_time() - began < 5


async def test_with_a_bearer_token() -> None:
    async with FakeGateway(bearer="token") as gateway:
        assert await ModalBackend(url=gateway.url, api_key="token").warm()


async def test_wrong_keys_are_an_error_without_the_keys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="kyutai_stream")
    async with FakeGateway(key="wk-1", secret="ws-1") as gateway:
        backend = ModalBackend(url=gateway.url, key="wk-1", secret="ws-not-this")
        with pytest.raises(AuthError, match="/v1/warm answered HTTP 401") as caught:
            await backend.warm()
    assert "ws-not-this" not in str(caught.value) + caplog.text


async def test_only_one_gateway_is_woken() -> None:
    cold, other = FakeGateway(cold_start_s=60, edge="server"), FakeGateway()
    async with cold, other:
        backend = ModalBackend(url=[NOBODY, cold.url, other.url])
        assert await backend.warm() is False
        assert (cold.requests, other.requests) == (["/v1/warm"], [])


async def test_where_nobody_listens() -> None:
    with pytest.raises(ConnectFailed, match="cannot be reached"):
        await ModalBackend(url=NOBODY).warm()


async def test_it_gives_up() -> None:
    async with FakeGateway(cold_start_s=600) as gateway:
        backend = ModalBackend(url=gateway.url, open_timeout_s=30)
        began = anyio.current_time()
        with pytest.raises(ConnectFailed, match="did not answer within 30 s"):
            await backend.warm()
        assert anyio.current_time() - began == pytest.approx(30, abs=0.1)


async def test_it_can_be_cancelled() -> None:
    async with FakeGateway(cold_start_s=600) as gateway:
        with anyio.move_on_after(5) as scope:
            await ModalBackend(url=gateway.url).warm()
        assert scope.cancelled_caught


async def test_the_address_is_beside_the_stream() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (url, asked):
        assert await ModalBackend(url=f"{url}/stt/v1/stream?region=eu").warm()
        assert asked[0].startswith("GET /stt/v1/warm?region=eu HTTP/1.1\r\n")
        assert f"\r\nHost: {url.removeprefix('ws://')}\r\n" in asked[0]
        # Nobody knows what is beside another name.
        assert await ModalBackend(url=f"{url}/captions").warm() is False
        # Which proxy lets us through is known for websockets only.
        assert await ModalBackend(url=url, proxy=True).warm() is False
        assert len(asked) == 1


@pytest.mark.parametrize("status", [303, 404, 408, 429, 500, 503])
async def test_other_answers(status: int) -> None:
    reply = f"HTTP/1.1 {status} Whatever\r\nLocation: http://elsewhere/\r\n\r\n"
    async with answering(reply.encode()) as (url, asked):
        assert await ModalBackend(url=url).warm() is False
        assert len(asked) == 1


@pytest.mark.parametrize(
    "reply", [b"", b"HTTP/1.1 ", b"SSH-2.0-x\r\n", b"HTTP/2 200\r\n", b"y" * 1100]
)
async def test_what_is_no_web_server(reply: bytes) -> None:
    async with answering(reply) as (url, _):
        with pytest.raises(ConnectFailed):
            await ModalBackend(url=url).warm()


async def test_secure_addresses_are_asked_securely() -> None:
    async with answering(b"no TLS") as (url, asked):
        secure = url.replace("ws://", "wss://")
        with pytest.raises(ConnectFailed, match="cannot be reached"):
            await ModalBackend(
                url=secure, ssl_context=ssl.create_default_context()
            ).warm()
        assert "GET" not in "".join(asked)


async def test_an_impossible_name() -> None:
    with pytest.raises((ConfigError, ConnectFailed)):
        await ModalBackend(url=f"ws://{'x' * 70}.example").warm()


async def test_a_fallback_wakes_the_first_only() -> None:
    async with FakeGateway() as first, FakeGateway() as second:
        one, other = ModalBackend(url=first.url), ModalBackend(url=second.url)
        assert await Fallback([one, other]).warm()
        assert (first.requests, second.requests) == (["/v1/warm"], [])
    assert await Fallback([ActivityBackend()]).warm() is False


def test_what_runs_here_cannot_be_woken() -> None:
    assert not isinstance(ActivityBackend(), Warmable)
