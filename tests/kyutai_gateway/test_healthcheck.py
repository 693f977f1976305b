"""What Docker is told about the gateway's health."""

from __future__ import annotations

import functools
import socket

import anyio
import pytest

from kyutai_gateway.healthcheck import healthy, main


async def answer(body: bytes) -> bool:
    """Ask a server that gives this answer."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(body)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        ask = functools.partial(healthy, f"http://127.0.0.1:{port}")
        told = await anyio.to_thread.run_sync(ask)
        tasks.cancel_scope.cancel()
    return told


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        ("200 OK", b"ready\n", True),
        # Busy is not ill: Swarm would replace the container.
        ("503 Service Unavailable", b"full\n", True),
        ("503 Service Unavailable", b"draining\n", True),
        ("503 Service Unavailable", b"starting\n", False),
        ("503 Service Unavailable", b"wedged\n", False),
        ("503 Service Unavailable", b"failed\n", False),
        ("404 Not Found", b"there is no such page\n", False),
    ],
)
async def test_what_is_healthy(status: str, body: bytes, expected: bool) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
    assert await answer(head.encode() + body) is expected


async def test_garbage_is_not_healthy() -> None:
    assert not await answer(b"SSH-2.0-dropbear\r\n")


def test_nobody_there_is_not_healthy() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        assert main([f"http://127.0.0.1:{port}"]) == 1
