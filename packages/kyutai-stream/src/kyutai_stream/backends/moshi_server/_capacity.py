# SPDX-License-Identifier: MIT
"""Ask a moshi-server how full it is: one small HTTP request, for diagnosis."""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream
from attrs import frozen

from ...errors import ConnectFailed
from ...wire.address import address_for_people

__all__ = ["Slots", "read_slots"]

LONGEST_ANSWER = 1 << 16


@frozen(kw_only=True)
class Slots:
    """Places of one module."""

    used: int
    """Places taken."""
    total: int
    """All places."""
    kind: str
    """Type of the module: `batched_asr` or `py_batched_asr`."""


async def read_slots(
    url: str, *, timeout_s: float, tls: ssl.SSLContext | None = None
) -> Slots:
    """Read `GET /api/modules_info` of the server at a stream's address.

    Args:
        url: Address of the stream, `ws` or `wss`.
        timeout_s: Seconds for the whole request.
        tls: For `wss`; None trusts the system's certificates.

    Raises:
        ConnectFailed: If it does not answer, or not as moshi-server does.
    """
    where = address_for_people(url)
    answer = b""
    try:
        with anyio.move_on_after(timeout_s) as scope:
            answer = await _get(url, "/api/modules_info", tls)
    except (OSError, anyio.BrokenResourceError) as exc:
        raise ConnectFailed(f"{where} cannot be reached") from exc
    if scope.cancelled_caught:
        raise ConnectFailed(f"{where} did not answer within {timeout_s:g} s")
    try:
        return _slots(answer, urlsplit(url).path)
    except (ValueError, LookupError, TypeError) as exc:
        raise ConnectFailed(f"{where} did not tell its places") from exc


async def _get(url: str, path: str, tls: ssl.SSLContext | None) -> bytes:
    parts = urlsplit(url)
    # HTTP 1.0: the answer comes in one piece and ends with the connection.
    request = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n"
    answer = b""
    async with await _connect(url, tls) as stream:
        await stream.send(request.encode("ascii"))
        try:
            while len(answer) < LONGEST_ANSWER:
                answer += await stream.receive()
        except anyio.EndOfStream:
            pass
    return answer


async def _connect(url: str, tls: ssl.SSLContext | None) -> ByteStream:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "ws":
        return await anyio.connect_tcp(host, parts.port or 80)
    # Servers may end TLS without a goodbye; a cut answer is no JSON.
    return await anyio.connect_tcp(
        host,
        parts.port or 443,
        tls=True,
        ssl_context=tls,
        tls_standard_compatible=False,
    )


def _slots(answer: bytes, path: str) -> Slots:
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(maxsplit=2)[1] != b"200":
        raise ValueError("not found")
    modules: list[dict[str, Any]] = json.loads(body)
    module = [one for one in modules if one["path"] == path][0]
    # All values are strings.
    return Slots(
        used=int(module["used_slots"]),
        total=int(module["total_slots"]),
        kind=str(module["type"]),
    )
