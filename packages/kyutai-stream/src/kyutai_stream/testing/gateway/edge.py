# SPDX-License-Identifier: MIT
"""The edge in front of a gateway: all that is answered before the upgrade.

Credentials, cold starts, places, planned failures and the plain HTTP pages.

Source: modal-serving.md sections 3 and 4 (header forms, statuses, texts).
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import anyio
from attrs import define, evolve, field, frozen
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import State

from .incidents import Attempt

__all__ = [
    "STREAM_PATH",
    "Edge",
    "EdgeOptions",
    "GatewayEdge",
    "Handshake",
    "bearer_tokens",
]

Edge = Literal["function", "server"]

STREAM_PATH = "/v1/stream"
RETRY_AFTER_S = 2

NOT_DEPLOYED = "modal-http: invalid function call"
"""With 404, for a path or app that is not there."""


@define(eq=False)
class Handshake:
    """One attempt to connect, also a refused one."""

    path: str
    """Request path, without its query."""
    status: int | None = None
    """HTTP status of the answer, 101 for an upgrade; None while it waits."""
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """Request headers, secrets included, names in lower case."""


@frozen(kw_only=True)
class EdgeOptions:
    """How the edge treats requests."""

    kind: Edge
    """What it does while the gateway starts or is full: see `FakeGateway`."""
    slots: int | None
    """Streams at a time; None for any number."""
    cold_start_s: float
    """Seconds of a start, before the scale."""
    scale: float
    """Factor of all waits."""


class GatewayEdge:
    """Lets requests in, each with the plan whose turn it is.

    Args:
        options: How it treats them.
        bearers: Good tokens; none lets everybody in.
        attempts: Plans for the first connection attempts.
    """

    def __init__(
        self, options: EdgeOptions, bearers: Sequence[str], attempts: Sequence[Attempt]
    ) -> None:
        self.attempts = list(attempts)
        """Plans for the next connection attempts."""
        self.handshakes: list[Handshake] = []
        """Attempts to open a stream, in order, also refused ones."""
        self.requests: list[str] = []
        """Paths of plain HTTP requests, in order."""
        self.draining = False
        """Whether it says so."""
        self._options = options
        self._bearers = bearers
        self._admitted: dict[ServerConnection, tuple[Attempt, Handshake]] = {}
        self._warm_at: float | None = None
        self._closing = anyio.Event()

    @property
    def used(self) -> int:
        """Places taken now; a stream that was refused takes none."""
        admitted = self._admitted.items()
        # A client may go away during its handshake; nobody tells us.
        gone = [socket for socket, _ in admitted if socket.state is State.CLOSED]
        for socket in gone:
            del self._admitted[socket]
        return sum(not attempt.full for attempt, _ in self._admitted.values())

    @property
    def full(self) -> bool:
        """Whether no place is left."""
        slots = self._options.slots
        return slots is not None and self.used >= slots

    def open(self) -> None:
        """Begin to take requests."""
        self._closing = anyio.Event()

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closing.set()

    def admitted(self, socket: ServerConnection) -> tuple[Attempt, Handshake] | None:
        """The plan of a socket that was let in, and its handshake."""
        return self._admitted.get(socket)

    def left(self, socket: ServerConnection) -> None:
        """A stream is over; its place is free."""
        self._admitted.pop(socket, None)

    async def answer(
        self, socket: ServerConnection, request: Request, *, warms: bool
    ) -> Response | None:
        """Answer a request; None lets the socket in.

        Args:
            socket: Where it came.
            request: The request.
            warms: Whether the gateway behind knows `/v1/warm`.
        """
        path = urlsplit(request.path).path
        headers = _plain_headers(request.headers)
        upgrade = headers.get("upgrade", "").lower() == "websocket"
        handshake = Handshake(path=path, headers=headers)
        if upgrade:
            self.handshakes.append(handshake)
        else:
            self.requests.append(path)
        response = _check_credentials(headers, self._bearers)
        if response is None and not upgrade:
            response = await self._page(path, warms)
        elif response is None:
            response = await self._admit(socket, handshake)
        handshake.status = 101 if response is None else response.status_code
        return response

    async def _admit(
        self, socket: ServerConnection, handshake: Handshake
    ) -> Response | None:
        if handshake.path != STREAM_PATH:
            return _respond(404, NOT_DEPLOYED)
        attempt = self.attempts.pop(0) if self.attempts else Attempt()
        cold = self._seconds_until_warm()
        if cold and self._options.kind == "server":
            return _later(503, "starting")
        await self._pause(cold + attempt.handshake_s * self._options.scale)
        if self._closing.is_set():
            return _respond(503, "gone")
        if attempt.status is not None:
            return _respond(attempt.status, "as planned", attempt.headers)
        if self.full:
            if self._options.kind == "server":
                return _later(429, "full")
            attempt = evolve(attempt, full=True)
        self._admitted[socket] = (attempt, handshake)
        return None

    async def _page(self, path: str, warms: bool) -> Response:
        match path:
            case "/livez":
                return _respond(200, "alive")
            case "/readyz":
                return self._readiness()
            case "/capacity":
                numbers = {"used": self.used, "total": self._options.slots}
                return _respond(200, json.dumps({**numbers, "draining": self.draining}))
            case "/v1/warm":
                wait = self._seconds_until_warm()
                if wait and self._options.kind == "server":
                    return _later(503, "starting")
                await self._pause(wait)
                if warms:
                    return _respond(200, json.dumps({"ready": True}))
        return _respond(404, NOT_DEPLOYED)

    def _readiness(self) -> Response:
        cold = self._seconds_until_warm() > 0
        if self.draining:
            return _respond(503, "draining")
        if self.full:
            return _respond(503, "full")
        return _respond(503, "starting") if cold else _respond(200, "ready")

    def _seconds_until_warm(self) -> float:
        now = anyio.current_time()
        if self._warm_at is None:
            # The first request starts the container.
            self._warm_at = now + self._options.cold_start_s * self._options.scale
        return max(0.0, self._warm_at - now)

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._closing.wait()


def bearer_tokens(
    key: str | None, secret: str | None, bearer: str | None
) -> tuple[str, ...]:
    """The tokens that are good: that of the proxy, and the other one.

    Raises:
        ValueError: If there is a key without its secret, or the other way round.
    """
    if (key is None) != (secret is None):
        raise ValueError("key and secret belong together")
    proxy = None if key is None else f"{key}.{secret}"
    return tuple(token for token in (bearer, proxy) if token is not None)


def _check_credentials(
    headers: Mapping[str, str], bearers: Sequence[str]
) -> Response | None:
    """Refuse a request without one of the tokens; no tokens let everybody in.

    Args:
        headers: Of the request, names in lower case.
        bearers: Good tokens; a key and its secret are `key.secret`.
    """
    if not bearers:
        return None
    given = headers.get("authorization", "")
    if "modal-key" in headers or "modal-secret" in headers:
        given = f"Bearer {headers.get('modal-key')}.{headers.get('modal-secret')}"
    for token in bearers:
        if hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return None
    what = "invalid" if given else "missing"
    return _respond(401, f"modal-http: {what} credentials for proxy authorization")


def _plain_headers(headers: Headers) -> dict[str, str]:
    """Headers as a mapping, names in lower case."""
    return {name.lower(): value for name, value in headers.raw_items()}


def _later(status: int, text: str) -> Response:
    return _respond(status, text, {"Retry-After": str(RETRY_AFTER_S)})


def _respond(
    status: int, text: str, extra: Mapping[str, str] | None = None
) -> Response:
    """A plain HTTP answer."""
    body = text.encode() + b"\n"
    kind = "application/json" if text.startswith("{") else "text/plain; charset=utf-8"
    headers = Headers(
        [
            ("Connection", "close"),
            ("Content-Length", str(len(body))),
            ("Content-Type", kind),
            *(extra or {}).items(),
        ]
    )
    return Response(status, "As planned", headers, body)
