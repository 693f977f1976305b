# SPDX-License-Identifier: MIT
"""Serve the gateway with uvicorn: its settings, and an end that ends streams first."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Protocol

import anyio
import uvicorn

from .app import Gateway
from .logs import log

__all__ = ["GatewayServer", "ServeSettings", "serve", "serving"]

MAX_MESSAGE = 4 * 1024 * 1024
"""Messages above 2 MiB get an error with a code from us; above this, from uvicorn,
only the close code 1009."""

UNREAD_S = 60_000
"""Milliseconds that a peer may leave our bytes unread before the kernel drops it."""

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


class GatewayServer(uvicorn.Server):
    """uvicorn that drains the gateway before it stops listening.

    Args:
        config: Of uvicorn.
        gateway: The application.
        drain_s: Seconds that streams have after a signal.
    """

    def __init__(
        self, config: uvicorn.Config, gateway: Gateway, *, drain_s: float
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
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
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Look for a signal, ten times a second; True to stop listening."""
        if self._signals == 1 and not self._gateway.draining:
            # Within uvicorn's main loop: while it waits here it still serves.
            await self._drain()
        return await super().on_tick(counter)

    async def _drain(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_forced, tasks.cancel_scope)
            await self._gateway.drain(self._drain_s)
            tasks.cancel_scope.cancel()
        self.should_exit = True

    async def _until_forced(self, drain: anyio.CancelScope) -> None:
        # Set by a signal handler, which can wake no task.
        while not self.force_exit:  # noqa: ASYNC110
            await anyio.sleep(0.1)
        drain.cancel()


def _config(gateway: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        gateway,
        http="h11",
        ws="websockets-sansio",
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
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server(
        (settings.host, settings.port), family=family, backlog=BACKLOG
    )
    listener.setblocking(False)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Inherited by accepted sockets: one that never reads does not stay for ever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S)
    return listener


async def serve(gateway: Gateway, settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    Raises:
        OSError: If it cannot listen.
    """
    async with serving(gateway, settings) as server:
        await server.ended.wait()


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
        self._server.handle_exit(15, None)


@asynccontextmanager
async def serving(gateway: Gateway, settings: ServeSettings) -> AsyncIterator[Serving]:
    """Serve in the background; leaving stops at once, without a drain.

    Raises:
        OSError: If it cannot listen.
    """
    listener = _listen(settings)
    server = GatewayServer(_config(gateway), gateway, drain_s=settings.drain_s)
    running = Serving(server, settings.host, listener.getsockname()[1])
    log("listening", host=running.host, port=running.port)

    async def run() -> None:
        try:
            await server.serve(sockets=[listener])
        finally:
            running.ended.set()
            server.up.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await server.up.wait()
            yield running
        finally:
            server.should_exit = server.force_exit = True
            with anyio.CancelScope(shield=True), anyio.move_on_after(2 * EXIT_S):
                await running.ended.wait()
            tasks.cancel_scope.cancel()
            listener.close()
