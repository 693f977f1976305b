# SPDX-License-Identifier: MIT
"""Just enough HTTP and WebSocket to ask a server on this machine how it is.

By hand, so that readiness depends on no client library, and on no proxy setting.
"""

from __future__ import annotations

import contextlib
import secrets
import socket

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from ._errors import MoshiServerUnavailable

__all__ = ["free_port", "http_get", "speaks"]

_TIMEOUT_S = 5.0
_READY = b"\x81\xa4type\xa5Ready"
# Close without code, masked with zeros.
_CLOSE = b"\x88\x80\x00\x00\x00\x00"


async def http_get(host: str, port: int, target: str) -> tuple[int, bytes]:
    """Fetch a small document.

    Returns:
        The HTTP status and the body.

    Raises:
        OSError: If the server does not answer properly within 5 seconds.
    """
    request = f"GET {target} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    answer = b""
    try:
        with anyio.fail_after(_TIMEOUT_S):
            async with await anyio.connect_tcp(host, port) as stream:
                await stream.send(request.encode())
                async for chunk in stream:
                    answer += chunk
    except (TimeoutError, anyio.BrokenResourceError) as exc:
        raise OSError(f"no answer from {host}:{port}") from exc
    head, _, body = answer.partition(b"\r\n\r\n")
    return _status(head), body


async def speaks(host: str, port: int, target: str) -> None:
    """Open a stream, wait for `Ready` and close it.

    Raises:
        OSError: If `Ready` does not come within 5 seconds.
    """
    try:
        with anyio.fail_after(_TIMEOUT_S):
            async with await anyio.connect_tcp(host, port) as stream:
                await _first_message(stream, host, target)
                await stream.send(_CLOSE)
                # The server answers it, which frees the slot at once.
                await stream.receive()
    except anyio.EndOfStream:
        return
    except (
        TimeoutError,
        anyio.BrokenResourceError,
        anyio.DelimiterNotFound,
        anyio.IncompleteRead,
    ) as exc:
        raise OSError(f"no Ready from {host}:{port}") from exc


async def _first_message(stream: SocketStream, host: str, target: str) -> None:
    request = (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: a3l1dGFpLXN0cmVhbS10ZQ==\r\n\r\n"
    )
    await stream.send(request.encode())
    reader = BufferedByteReceiveStream(stream)
    status = _status(await reader.receive_until(b"\r\n\r\n", 16_384))
    if status != 101:
        raise OSError(f"HTTP {status} at the upgrade")
    opcode, length = await reader.receive_exactly(2)
    message = await reader.receive_exactly(length)
    if opcode != 0x82 or message != _READY:
        raise OSError(f"not Ready, but {message!r}")


def _status(head: bytes) -> int:
    parts = head.split(None, 2)
    if len(parts) < 2 or not parts[1].isdigit():
        raise OSError("not an HTTP answer")
    return int(parts[1])


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now and stays so over restarts.

    Taken from below the range that the system gives to outgoing connections: a
    client that retries while the server is down could otherwise be given the
    server's own port, or even connect to itself.
    """
    for _ in range(100):
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise MoshiServerUnavailable("no free TCP port found on 127.0.0.1")
