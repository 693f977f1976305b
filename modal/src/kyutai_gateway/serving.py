# SPDX-License-Identifier: MIT
"""Serve the gateway with uvicorn: its settings, and an end that ends streams first."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Protocol

import anyio
import uvicorn

from ._tasks import open_tasks
from .app import Gateway
from .logs import log
from .stream import Message, Receive, Send
from .uvicorn_direct import websocket_class

__all__ = ["GatewayServer", "ServeSettings", "Serving", "serve", "serving"]

App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_MESSAGE = 4 * 1024 * 1024
"""Messages above 2 MiB get an error with a code from us; above this, from uvicorn,
only the close code 1009."""

UNREAD_MS = 60_000
"""Time that a peer may leave our bytes unread before the kernel drops it."""

EXIT_S = 3
"""Seconds that uvicorn takes at most for what is left when streams have ended."""

BACKLOG = 256


class ServeSettings(Protocol):
    """Where to listen (`GatewaySettings` has it)."""

    @property
    def host(self) -> str:
        """Address to listen on."""

    @property
    def port(self) -> int:
        """Port; 0 for a free one."""

    @property
    def drain_s(self) -> float:
        """Time that streams have after SIGTERM."""


Drain = Callable[[float], Awaitable[None]]


class GatewayServer(uvicorn.Server):
    """uvicorn that drains the gateway before it stops listening.

    Args:
        config: Of uvicorn.
        drain: Ends all streams within so many seconds.
        drain_s: Seconds that streams have after a signal.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, *, drain_s: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_s = drain_s
        self._signals = 0
        self.up = anyio.Event()
        """Set when it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen."""
        await super().startup(sockets)
        self.up.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first signal; stop at once at the second."""
        self._signals += 1
        if self._signals > 1:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Look for a signal, ten times a second; True to stop listening."""
        if self._signals and not self.should_exit:
            # Within uvicorn's main loop: while it waits here it still serves.
            await self._drained()
        return await super().on_tick(counter)

    async def _drained(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_forced, tasks.cancel_scope)
            await self._drain(self._drain_s)
            tasks.cancel_scope.cancel()
        self.should_exit = True

    async def _until_forced(self, drain: anyio.CancelScope) -> None:
        # Set by a signal handler, which can wake no task.
        while not self.should_exit:  # noqa: ASYNC110
            await anyio.sleep(0.1)
        drain.cancel()


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws=websocket_class(),
        ws_max_size=MAX_MESSAGE,
        # Our own JSON pings are for the client to see. A pong is not read while a
        # stream holds its client back, and must not be missed then.
        ws_ping_interval=None,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=EXIT_S,
        backlog=BACKLOG,
    )


def _listen(settings: ServeSettings) -> socket.socket:
    host, port = settings.host, settings.port
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # With the protocol's number: asyncio sets TCP_NODELAY by it, and without that a
    # word may wait 40 ms for the acknowledgement of the one before.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Inherited by accepted sockets: one that never reads does not stay for
            # ever.
            option = socket.TCP_USER_TIMEOUT
            listener.setsockopt(socket.IPPROTO_TCP, option, UNREAD_MS)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


async def serve(
    app: App, settings: ServeSettings, *, drain: Drain | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    Args:
        app: A `Gateway`, or an ASGI application around one.
        settings: Where to listen, and for how long to drain.
        drain: Ends all streams; None for the application's own `drain`.

    Raises:
        OSError: If it cannot listen.
        RuntimeError: If the application's start-up failed.
    """
    async with serving(app, settings, drain=drain) as running:
        await running.ended.wait()


class Serving:
    """A running server."""

    def __init__(self, server: GatewayServer, host: str, port: int) -> None:
        self._server = server
        self.host = host
        """Address it listens on."""
        self.port = port
        """Port it listens on."""
        self.ended = anyio.Event()
        """Set when it has stopped."""
        self.failed = False
        """Whether it could not start."""

    @property
    def url(self) -> str:
        """Address of the stream."""
        return f"ws://{self._where}/v1/stream"

    @property
    def http_url(self) -> str:
        """Address of the pages, without a path."""
        return f"http://{self._where}"

    @property
    def _where(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def terminate(self) -> None:
        """Do as at SIGTERM: drain, then stop."""
        self._server.handle_exit(signal.SIGTERM, None)

    async def run(self, listener: socket.socket) -> None:
        """Serve until told to stop."""
        try:
            await self._server.serve(sockets=[listener])
        except SystemExit:
            # uvicorn's way to say that the application did not start.
            self.failed = True
        finally:
            self.ended.set()
            self._server.up.set()


@asynccontextmanager
async def serving(
    app: App, settings: ServeSettings, *, drain: Drain | None = None
) -> AsyncGenerator[Serving, None]:
    """Serve in the background; leaving stops within some seconds, without a drain.

    Args:
        app: A `Gateway`, or an ASGI application around one.
        settings: Where to listen, and for how long to drain.
        drain: Ends all streams; None for the application's own `drain`.

    Raises:
        OSError: If it cannot listen.
        RuntimeError: If the application's start-up failed.
    """
    if drain is None:
        drain = app.drain if isinstance(app, Gateway) else _nothing
    listener = _listen(settings)
    server = GatewayServer(_config(app), drain, drain_s=settings.drain_s)
    running = Serving(server, settings.host, listener.getsockname()[1])
    # Stopped by its own means, also when cancelled: clients are told then.
    shield = anyio.CancelScope(shield=True)

    async def run() -> None:
        with shield:
            await running.run(listener)

    async with open_tasks() as tasks:
        tasks.start_soon(run)
        try:
            await server.up.wait()
            if running.failed:
                raise RuntimeError("the gateway could not start")
            log("listening", host=running.host, port=running.port)
            yield running
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True), anyio.move_on_after(2 * EXIT_S):
                await running.ended.wait()
            shield.cancel()
            listener.close()


async def _nothing(_: float) -> None:
    """There is nothing to drain."""
