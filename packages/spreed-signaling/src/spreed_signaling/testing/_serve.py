# SPDX-License-Identifier: MIT
"""Run an ASGI application inside the current event loop, for stand-in servers.

uvicorn is made for owning a process: it installs signal handlers, configures
logging and polls a flag. `AppServer` keeps its HTTP and WebSocket handling only.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import anyio
import httpx
import uvicorn
from anyio.abc import TaskGroup, TaskStatus

__all__ = ["AppServer", "bind_socket", "local_client"]

_GRACE_S = 1
"""Seconds that open requests get at shutdown before they are cancelled."""

_STOP_LIMIT_S = 5.0
"""Seconds after which a shutdown that hangs is cut off."""


def bind_socket(port: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """Reserve a TCP address, so that its port is known before anything runs.

    Args:
        port: Port number; 0 lets the system choose a free one.
        host: IPv4 address to bind.

    Returns:
        A bound socket that does not listen yet.

    Raises:
        OSError: If the address is taken or does not exist.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A restarted stand-in must get its old port back while connections of
        # the previous one are still in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def local_client(timeout_s: float = 10.0) -> httpx.AsyncClient:
    """Return an HTTP client for plain-text servers on this machine.

    It takes no proxy from the environment and trusts no certificate: loading the
    system's would cost about 60 ms for each client.

    Args:
        timeout_s: Seconds for each step of a request.
    """
    nothing_trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncClient(trust_env=False, verify=nothing_trusted, timeout=timeout_s)


async def _leave(tasks: TaskGroup, exc: BaseException | None) -> bool | None:
    """Leave a task group; an error of the body goes on as it is, not in a group."""
    if exc is None or isinstance(exc, Exception):
        await tasks.__aexit__(None, None, None)
        return None
    return await tasks.__aexit__(type(exc), exc, exc.__traceback__)


class _Server(uvicorn.Server):
    """uvicorn's server without signals, without polling, with a ready mark."""

    def __init__(self, config: uvicorn.Config, status: TaskStatus[None]) -> None:
        super().__init__(config)
        self.stop = anyio.Event()
        self._status = status

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._status.started()

    async def main_loop(self) -> None:
        # The original wakes ten times a second to look at a flag.
        await self.stop.wait()


class AppServer:
    """One ASGI application served on a loopback address in this event loop.

    HTTP and WebSockets; no lifespan events. Use as an asynchronous context
    manager, entered and left in the same task:

        async with AppServer(app) as server:
            ...  # server.url

    Leaving it closes the listener, sends WebSocket close 1012 to clients, gives
    open requests one second, cancels what is left and returns within a few
    seconds, also when the surrounding scope was cancelled. The same port can be
    bound again at once.

    Args:
        app: The ASGI application.
        port: Port to listen on; 0 lets the system choose. The socket is bound in
            the constructor, so `port` and `url` are known before entering.
        host: IPv4 address to listen on.
        ws_max_size: Largest WebSocket message accepted, in bytes; a larger one
            closes the connection with 1009.
        ws_ping_interval_s: Seconds between WebSocket pings; None sends none.

    Raises:
        OSError: If the address is taken.
    """

    def __init__(
        self,
        app: Any,  # an ASGI callable; the frameworks disagree about its exact type
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        ws_max_size: int = 16 * 1024 * 1024,
        ws_ping_interval_s: float | None = 20.0,
    ) -> None:
        self._config = uvicorn.Config(
            app,
            http="h11",
            ws="websockets-sansio",
            # Said outright: uvicorn takes bound methods for the old ASGI 2.
            interface="asgi3",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=_GRACE_S,
            ws_max_size=ws_max_size,
            ws_ping_interval=ws_ping_interval_s,
        )
        # Set here and not passed in: the constructor would silence the access log
        # of every uvicorn in the process.
        self._config.access_log = False
        logger = logging.getLogger("uvicorn.error")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
        self._socket = bind_socket(port, host)
        self._server: _Server | None = None
        self._tasks: TaskGroup | None = None
        # Shielded: a cancelled caller still gets an orderly shutdown, which
        # __aexit__ asks for and limits.
        self._shield = anyio.CancelScope(shield=True)
        self._finished = anyio.Event()
        self.host = host
        self.port: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        """Base URL, `http://HOST:PORT` without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def close_socket(self) -> None:
        """Give the port back if the server was never entered."""
        self._socket.close()

    def abort(self) -> None:
        """Cut every open connection without a WebSocket close frame.

        Clients see what a killed server looks like (close code 1006). The
        listener stays open; leave the context manager to end it.
        """
        if self._server is None:
            return
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()

    async def __aenter__(self) -> AppServer:
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        try:
            await tasks.start(self._run)
        except BaseException as exc:
            self._socket.close()
            tasks.cancel_scope.cancel()
            await _leave(tasks, exc)
            raise
        self._tasks = tasks
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._server is None or self._tasks is None:
            raise AssertionError("left without having been entered")
        self._server.stop.set()
        with anyio.move_on_after(_STOP_LIMIT_S, shield=True):
            await self._finished.wait()
        self._shield.cancel()
        self._tasks.cancel_scope.cancel()
        return await _leave(self._tasks, exc)

    async def _run(self, *, task_status: TaskStatus[None]) -> None:
        self._server = server = _Server(self._config, task_status)
        try:
            with self._shield:
                await server.serve(sockets=[self._socket])
                await self._drain(server)
        finally:
            self._socket.close()
            self._finished.set()

    async def _drain(self, server: _Server) -> None:
        """Wait for cancelled request tasks, which uvicorn itself does not do."""
        for connection in list(server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        with anyio.move_on_after(_STOP_LIMIT_S / 2):
            # uvicorn offers no event for this, so there is nothing to wait on.
            while server.server_state.tasks or server.server_state.connections:  # noqa: ASYNC110
                await anyio.sleep(0.01)
