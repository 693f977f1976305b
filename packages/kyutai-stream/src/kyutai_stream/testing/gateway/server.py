# SPDX-License-Identifier: MIT
"""The fake gateway: a real websocket server around the protocol cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, Self

import anyio
from attrs import evolve
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from ...core import FRAME_S
from ..moshi_server import STT_1B, Model, Recogniser
from ..tones import ToneRecogniser
from .connection import GatewayConnection
from .edge import STREAM_PATH, Edge, EdgeOptions, GatewayEdge, Handshake, bearer_tokens
from .generations import DEFAULT_TIMERS, DIALECTS
from .incidents import Attempt, Incident
from .machine import StreamMachine
from .options import DialectOptions, Timers

__all__ = ["DialectName", "FakeGateway"]

DialectName = Literal["protocol1", "gen1", "gen2", "gen3", "document"]

MAX_MESSAGE = 2 * 1024 * 1024
"""Largest message that Modal lets through."""
CLOSE_TIMEOUT_S = 2.0


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
        self.dialect: DialectName = dialect
        behaviour = EdgeOptions(
            kind=edge, slots=slots, cold_start_s=cold_start_s, scale=time_scale
        )
        self._edge = GatewayEdge(
            behaviour, bearer_tokens(key, secret, bearer), attempts
        )
        self._options = DialectOptions(
            listen=listen,
            step_s=0.0 if speed is None else FRAME_S / speed,
            timers=(timers or DEFAULT_TIMERS[dialect]).scaled(time_scale),
            scale=time_scale,
            model=model,
            leading_space=leading_space,
        )
        self._keep_audio = keep_audio
        self._port = port
        self._server: Server | None = None
        self.connections: list[GatewayConnection] = []
        """Accepted connections, in order, also those that are over."""

    async def __aenter__(self) -> Self:
        self._edge.open()
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
            self._edge.close()
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
        return self._edge.used

    @property
    def handshakes(self) -> list[Handshake]:
        """Attempts to open a stream, in order, also refused ones."""
        return self._edge.handshakes

    @property
    def requests(self) -> list[str]:
        """Paths of plain HTTP requests, in order."""
        return self._edge.requests

    @property
    def draining(self) -> bool:
        """Whether new streams are refused; set by `drain`."""
        return self._edge.draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._edge.draining = draining

    def plan(self, *attempts: Attempt) -> None:
        """Plan the next connection attempts."""
        self._edge.attempts.extend(attempts)

    def happen(self, incident: Incident) -> None:
        """Let something happen to all open connections."""
        for connection in self.connections:
            if connection.open:
                connection.happen(incident)

    def drain(self, incident: Incident) -> None:
        """Take no new streams and let the open ones end (`Drain(...)`)."""
        self.draining = True
        self.happen(incident)

    async def _process_request(
        self, socket: ServerConnection, request: Request
    ) -> Response | None:
        warms = self.dialect == "protocol1"
        return await self._edge.answer(socket, request, warms=warms)

    async def _handle(self, socket: ServerConnection) -> None:
        admitted = self._edge.admitted(socket)
        if admitted is None:
            return
        attempt, handshake = admitted
        refuse = "draining" if self.draining else None
        number = len(self.connections)
        options = evolve(self._options, attempt=attempt, refuse=refuse, number=number)
        now = anyio.current_time()
        connection = GatewayConnection(
            machine=StreamMachine(DIALECTS[self.dialect](options, now), now),
            headers=handshake.headers,
            path=socket.request.path if socket.request else "",
            socket=socket,
            keep_audio=self._keep_audio,
        )
        self.connections.append(connection)
        try:
            await connection.serve()
        finally:
            self._edge.left(socket)
