# SPDX-License-Identifier: MIT
"""The fake gateway: a real websocket server around the protocol cores.

The edge in front of the gateway (Modal's, see modal-serving.md section 4) is part
of it: credentials are checked before the upgrade, a cold start makes handshakes
wait or answers 503, unknown paths are 404.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

import anyio
from attrs import evolve
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.protocol import State

from ...core import FRAME_S
from ..moshi_server import STT_1B, Model, Recogniser
from ..tones import ToneRecogniser
from .connection import GatewayConnection
from .edge import NOT_DEPLOYED, Handshake, check_credentials, plain_headers, respond
from .generations import DEFAULT_TIMERS, DIALECTS
from .incidents import Attempt, Incident
from .options import DialectOptions, Timers

__all__ = ["DialectName", "Edge", "FakeGateway"]

DialectName = Literal["protocol1", "gen1", "gen2", "gen3", "document"]
Edge = Literal["function", "server"]

STREAM_PATH = "/v1/stream"
MAX_MESSAGE = 2 * 1024 * 1024
"""Largest message that Modal lets through."""
CLOSE_TIMEOUT_S = 2.0
RETRY_AFTER_S = 2


class FakeGateway:
    """A gateway for captions on loopback, in any dialect, that fails on demand.

    ```python
    async with FakeGateway(dialect="protocol1") as gateway:
        async with websockets.connect(gateway.url, compression=None) as socket:
            ...
    ```

    Leaving the context looks like a killed server: sockets end without a close
    frame. Time is the event loop's, so it runs in virtual time as well.

    Args:
        dialect: What it speaks: `protocol1` (our gateway), `gen1`, `gen2`, `gen3`
            (codemyriad/kyutai_modal) or `document` (the project document).
        model: What the model is like, as for `FakeMoshiServer` (`STT_2_6B` sends no
            acks; a `Redecoding` makes it hear differently after a reconnect).
        listen: Makes the recogniser of a stream; the default hears tones,
            `ScriptedRecogniser` says known words.
        attempts: Plans for the first connection attempts, in order; later ones go
            well. Attempts that fail for credentials or path use none up.
        key: Proxy token id that clients must present; None lets everybody in.
        secret: Its secret. Both come as `Modal-Key` and `Modal-Secret` or as
            `Authorization: Bearer key.secret`.
        bearer: Bearer token that is good as well, as of a gateway hosted elsewhere.
        speed: Model speed in multiples of real time; None for as fast as possible.
        slots: Streams it serves at a time; None for any number.
        cold_start_s: Seconds its container takes to start, from the first request
            that gets past the credentials.
        edge: How the edge treats requests meanwhile and when full: `function`
            lets them wait, `server` answers 503 and 429.
        timers: Timers instead of the dialect's own.
        time_scale: Factor of all timers and planned waits (0.01: 10 s are 0.1 s).
        leading_space: Whether gen 3 words come with a leading space, as in its
            self-hosted variant.
        keep_audio: Whether connections keep what they received, in `audio`.
        port: Port to listen on; 0 for any free one.
    """

    def __init__(
        self,
        dialect: DialectName = "protocol1",
        *,
        model: Model = STT_1B,
        listen: Callable[[], Recogniser] = ToneRecogniser,
        attempts: Sequence[Attempt] = (),
        key: str | None = None,
        secret: str | None = None,
        bearer: str | None = None,
        speed: float | None = None,
        slots: int | None = None,
        cold_start_s: float = 0.0,
        edge: Edge = "function",
        timers: Timers | None = None,
        time_scale: float = 1.0,
        leading_space: bool = False,
        keep_audio: bool = False,
        port: int = 0,
    ) -> None:
        if (key is None) != (secret is None):
            raise ValueError("key and secret belong together")
        self.dialect: DialectName = dialect
        self._options = DialectOptions(
            listen=listen,
            step_s=0.0 if speed is None else FRAME_S / speed,
            timers=_scaled(timers or DEFAULT_TIMERS[dialect], time_scale),
            scale=time_scale,
            model=model,
            leading_space=leading_space,
        )
        self._attempts = list(attempts)
        self._bearers = [token for token in (bearer,) if token is not None]
        if key is not None:
            self._bearers.append(f"{key}.{secret}")
        self._slots = slots
        self._edge = edge
        self._cold_start_s = cold_start_s * time_scale
        self._warm_at: float | None = None
        self._keep_audio = keep_audio
        self._port = port
        self._server: Server | None = None
        self._admitted: dict[ServerConnection, tuple[Attempt, Handshake]] = {}
        self.connections: list[GatewayConnection] = []
        """Accepted connections, in order, also those that are over."""
        self.handshakes: list[Handshake] = []
        """Attempts to open a stream, in order, also refused ones."""
        self.requests: list[str] = []
        """Paths of plain HTTP requests, in order."""
        self.draining = False
        """Whether new streams are refused; set by `drain`."""

    async def __aenter__(self) -> Self:
        self._closing = anyio.Event()
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            self._port,
            process_request=self._process_request,
            compression=None,
            max_size=MAX_MESSAGE,
            open_timeout=None,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT_S,
            server_header=None,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        with anyio.CancelScope(shield=True):
            self._closing.set()
            for connection in self.connections:
                connection.abort()
            server.close()
            with anyio.move_on_after(2 * CLOSE_TIMEOUT_S):
                await server.wait_closed()

    @property
    def url(self) -> str:
        """Address of the stream, `ws://127.0.0.1:PORT/v1/stream`."""
        return f"ws://127.0.0.1:{self._port}{STREAM_PATH}"

    @property
    def http_url(self) -> str:
        """Address of the HTTP routes, without a path."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """Port it listens on."""
        return self._port

    @property
    def used(self) -> int:
        """Places taken now; a stream that was refused takes none."""
        admitted = self._admitted.items()
        # A client may go away during its handshake; nobody tells us.
        gone = [socket for socket, _ in admitted if socket.state is State.CLOSED]
        for socket in gone:
            del self._admitted[socket]
        return sum(not attempt.full for attempt, _ in self._admitted.values())

    def plan(self, *attempts: Attempt) -> None:
        """Plan the next connection attempts."""
        self._attempts.extend(attempts)

    def happen(self, incident: Incident) -> None:
        """Let something happen to all open connections."""
        for connection in self.connections:
            if connection.open:
                connection.happen(incident)

    def drain(self, incident: Incident) -> None:
        """Take no new streams and let the open ones end (`Drain(...)`)."""
        self.draining = True
        self.happen(incident)

    # Before the upgrade

    async def _process_request(
        self, socket: ServerConnection, request: Request
    ) -> Response | None:
        path = urlsplit(request.path).path
        headers = plain_headers(request.headers)
        upgrade = headers.get("upgrade", "").lower() == "websocket"
        handshake = Handshake(path=path, headers=headers)
        if upgrade:
            self.handshakes.append(handshake)
        else:
            self.requests.append(path)
        response = check_credentials(headers, self._bearers)
        if response is None and not upgrade:
            response = await self._http(path)
        elif response is None:
            response = await self._admit(socket, path, handshake)
        handshake.status = 101 if response is None else response.status_code
        return response

    async def _admit(
        self, socket: ServerConnection, path: str, handshake: Handshake
    ) -> Response | None:
        if path != STREAM_PATH:
            return respond(404, NOT_DEPLOYED)
        attempt = self._attempts.pop(0) if self._attempts else Attempt()
        cold = self._seconds_until_warm()
        if cold and self._edge == "server":
            return respond(503, "starting", {"Retry-After": str(RETRY_AFTER_S)})
        await self._pause(cold + attempt.handshake_s * self._options.scale)
        if self._closing.is_set():
            return respond(503, "gone")
        if attempt.status is not None:
            return respond(attempt.status, "as planned", attempt.headers)
        if self._slots is not None and self.used >= self._slots:
            if self._edge == "server":
                return respond(429, "full", {"Retry-After": str(RETRY_AFTER_S)})
            attempt = evolve(attempt, full=True)
        self._admitted[socket] = (attempt, handshake)
        return None

    def _seconds_until_warm(self) -> float:
        now = anyio.current_time()
        if self._warm_at is None:
            self._warm_at = now + self._cold_start_s
        return max(0.0, self._warm_at - now)

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._closing.wait()

    async def _http(self, path: str) -> Response:
        total = self._slots
        if path == "/livez":
            return respond(200, "alive")
        if path == "/readyz":
            full = total is not None and self.used >= total
            cold = self._seconds_until_warm() > 0
            bad = "draining" if self.draining else "full" if full else "starting"
            if self.draining or full or cold:
                return respond(503, bad)
            return respond(200, "ready")
        if path == "/capacity":
            numbers = {"used": self.used, "total": total, "draining": self.draining}
            return respond(200, json.dumps(numbers))
        if path == "/v1/warm":
            wait = self._seconds_until_warm()
            if wait and self._edge == "server":
                return respond(503, "starting", {"Retry-After": str(RETRY_AFTER_S)})
            await self._pause(wait)
            if self.dialect == "protocol1":
                return respond(200, json.dumps({"ready": True}))
        return respond(404, NOT_DEPLOYED)

    # After it

    async def _handle(self, socket: ServerConnection) -> None:
        if socket not in self._admitted:
            return
        attempt, handshake = self._admitted[socket]
        refuse = "draining" if self.draining else None
        number = len(self.connections)
        options = evolve(self._options, attempt=attempt, refuse=refuse, number=number)
        connection = GatewayConnection(
            dialect=DIALECTS[self.dialect](options, anyio.current_time()),
            headers=handshake.headers,
            path=socket.request.path if socket.request else "",
            socket=socket,
            keep_audio=self._keep_audio,
        )
        self.connections.append(connection)
        try:
            await connection.serve()
        finally:
            self._admitted.pop(socket, None)


def _scaled(timers: Timers, factor: float) -> Timers:
    def times(seconds: float | None) -> float | None:
        return None if seconds is None else seconds * factor

    return Timers(
        ping_s=times(timers.ping_s),
        idle_s=times(timers.idle_s),
        life_s=times(timers.life_s),
        drain_s=timers.drain_s * factor,
    )
