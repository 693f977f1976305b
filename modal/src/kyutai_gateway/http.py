# SPDX-License-Identifier: MIT
"""The few HTTP answers of the gateway, and HTTP to the model server, by hand.

A web framework would be most of the gateway's start-up time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

import anyio
from attrs import field, frozen

from .stream import Send

__all__ = ["Answer", "fetch_metrics", "refuse_upgrade", "send_answer"]

LONGEST_PAGE = 1 << 20

FETCH_S = 2.0


@frozen(kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int = 200
    """Its status."""
    body: str = ""
    """Its text."""
    kind: str = "text/plain; charset=utf-8"
    """Its content type."""
    headers: Mapping[str, str] = field(factory=dict)
    """More headers."""

    @classmethod
    def of_json(cls, value: object, *, status: int = 200) -> Answer:
        """An answer of JSON."""
        body = json.dumps(value) + "\n"
        return cls(status=status, body=body, kind="application/json")

    def raw_headers(self, length: int) -> list[tuple[bytes, bytes]]:
        """Headers as ASGI wants them.

        Args:
            length: Bytes of the body.
        """
        named = {
            "content-type": self.kind,
            "content-length": str(length),
            "cache-control": "no-store",
            **self.headers,
        }
        return [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in named.items()
        ]


async def send_answer(answer: Answer, send: Send, *, head: bool = False) -> None:
    """Answer an HTTP request.

    Args:
        answer: What to say.
        send: ASGI `send` of the request.
        head: Whether only the headers were asked for.
    """
    await _send(answer, send, "http.response", body=not head)


async def refuse_upgrade(
    answer: Answer, send: Send, extensions: Mapping[str, object] | None
) -> None:
    """Refuse a websocket with an HTTP answer, before it is accepted.

    Servers without ASGI's extension for that answer 403 of their own accord.

    Args:
        answer: What to say.
        send: ASGI `send` of the websocket.
        extensions: `scope["extensions"]`.
    """
    if "websocket.http.response" in (extensions or {}):
        await _send(answer, send, "websocket.http.response", body=True)
    else:
        await send({"type": "websocket.close"})


async def _send(answer: Answer, send: Send, kind: str, *, body: bool) -> None:
    data = answer.body.encode()
    await send(
        {
            "type": f"{kind}.start",
            "status": answer.status,
            "headers": answer.raw_headers(len(data)),
        }
    )
    await send({"type": f"{kind}.body", "body": data if body else b""})


async def fetch_metrics(url: str) -> str | None:
    """Read `/metrics` of a server; None if it has none or does not answer in 2 s.

    Args:
        url: Its base address, `http`; others are not asked.
    """
    parts = urlsplit(url)
    if parts.scheme != "http":
        return None
    # HTTP 1.0: the answer comes in one piece and ends with the connection.
    request = f"GET /metrics HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n"
    page = b""
    try:
        with anyio.move_on_after(FETCH_S) as scope:
            port = parts.port or 80
            async with await anyio.connect_tcp(parts.hostname or "", port) as stream:
                await stream.send(request.encode("ascii"))
                while len(page) < LONGEST_PAGE:
                    try:
                        page += await stream.receive()
                    except anyio.EndOfStream:
                        break
    except (OSError, anyio.BrokenResourceError):
        return None
    head, _, body = page.partition(b"\r\n\r\n")
    status = head.split(maxsplit=2)[1:2]
    if scope.cancelled_caught or status != [b"200"]:
        return None
    return body.decode("utf-8", "replace")
