# SPDX-License-Identifier: MIT
"""One WebSocket that drives one protocol session.

The session decides everything; this module opens the socket, moves frames and
keeps the one timer. Foreign exceptions become ours here and nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
from attrs import field, frozen
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    WebSocketException,
)

from ._tasks import Signal, open_task_group
from .errors import ConnectFailed, ConnectionLost, SignalingError, UsageError
from .protocol.session import SignalingSession

__all__ = [
    "TransportOptions",
    "close_connection",
    "drive",
    "open_connection",
    "websocket_url",
]

_log = logging.getLogger("spreed_signaling")

_MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes. Participants updates of large rooms pass any small limit; the server
itself sets none."""

_SEND_TIMEOUT_S = 10.0
"""A peer that takes nothing for this long is as good as gone; the server uses the
same. It also bounds what can pile up behind a slow socket."""


@frozen(kw_only=True)
class TransportOptions:
    """How to open and keep the WebSocket; times in seconds."""

    open_timeout_s: float = 10.0
    ping_interval_s: float = 10.0
    """Half-open connections are noticed after at most two intervals, early enough
    to resume the session (the server keeps it for 30 s)."""
    close_timeout_s: float = 1.0
    ssl: ssl.SSLContext | None = field(default=None, repr=False)
    """For self-signed certificates; None verifies as usual."""


def websocket_url(url: str) -> str:
    """Return the WebSocket endpoint for a configured server URL.

    Accepts `http(s)://` and `ws(s)://`, with or without `/spreed` at the end.

    Raises:
        UsageError: If it is no such URL.
    """
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    try:
        parts = urlsplit(url.strip())
        # Reading the port checks it.
        usable = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            f"{url!r} is not the URL of a signaling server; "
            "it looks like https://host/standalone-signaling"
        )
    path = parts.path.rstrip("/").removesuffix("/spreed")
    return urlunsplit((schemes[parts.scheme], parts.netloc, f"{path}/spreed", "", ""))


async def open_connection(url: str, options: TransportOptions) -> ClientConnection:
    """Open one WebSocket; no retry.

    Cancellation-safe: nothing stays open.

    Raises:
        ConnectFailed: With a reason in plain words.
    """
    # An explicit None would forbid TLS instead of choosing the usual context.
    with_context = options.ssl is not None and url.startswith("wss:")
    tls: dict[str, Any] = {"ssl": options.ssl} if with_context else {}
    try:
        return await open_websocket(
            url,
            open_timeout=options.open_timeout_s,
            ping_interval=options.ping_interval_s,
            ping_timeout=options.ping_interval_s,
            close_timeout=options.close_timeout_s,
            max_size=_MAX_MESSAGE,
            # Small JSON texts on a long-lived connection: not worth the memory.
            compression=None,
            **tls,
        )
    except (OSError, WebSocketException, EOFError, ImportError, ValueError) as exc:
        # ImportError and ValueError: proxies of the environment and redirects that
        # the WebSocket library cannot follow.
        raise ConnectFailed(url, _reason(exc)) from exc


def _reason(exc: Exception) -> str:
    """Say in plain words why no connection was made."""
    match exc:
        case InvalidStatus():
            status = exc.response.status_code
            if status >= 500:
                return f"HTTP {status}: the server behind this address is not running"
            return f"HTTP {status} instead of a WebSocket; is the path right?"
        case ssl.SSLCertVerificationError():
            return f"the TLS certificate is not trusted ({exc.verify_message})"
        case ssl.SSLError():
            return f"TLS failed ({exc.reason or 'unknown reason'})"
        case TimeoutError():
            return "no answer in time"
        case socket.gaierror():
            return "the host name does not resolve"
        case OSError():
            return _system_reason(exc)
        case InvalidHandshake() | EOFError():
            return f"it does not answer as a WebSocket server ({type(exc).__name__})"
        case _:
            return f"{type(exc).__name__}: {exc}"


def _system_reason(exc: OSError) -> str:
    if exc.errno is not None:
        # The texts of asyncio repeat the address.
        return os.strerror(exc.errno).lower()
    # Several addresses were tried; the reasons are in the text only.
    if f"[Errno {errno.ECONNREFUSED}]" in str(exc):
        return os.strerror(errno.ECONNREFUSED).lower()
    return str(exc) or type(exc).__name__


async def drive(
    websocket: ClientConnection,
    session: SignalingSession,
    wake: Signal,
    deliver: Callable[[], None],
) -> SignalingError:
    """Drive the session over this socket until it ends.

    Args:
        websocket: An open connection; it is closed at the end in any case.
        session: Has to be told of the opening already.
        wake: Set by others when the session has something to send.
        deliver: Called after every step, for the session's events.

    Returns:
        Why the socket ended.
    """
    ends: list[SignalingError] = []

    async def until_end(part: Callable[[], Awaitable[SignalingError]]) -> None:
        ends.append(await part())
        tasks.cancel_scope.cancel()

    try:
        async with open_task_group() as tasks:
            read = functools.partial(_read, websocket, session, wake, deliver)
            tasks.start_soon(until_end, read)
            await until_end(functools.partial(_pump, websocket, session, wake, deliver))
    finally:
        await close_connection(websocket)
    return ends[0]


async def _read(
    websocket: ClientConnection,
    session: SignalingSession,
    wake: Signal,
    deliver: Callable[[], None],
) -> SignalingError:
    """Hand frames to the session until there are no more; returns why."""
    with contextlib.suppress(ConnectionClosed):
        async for frame in websocket:
            session.receive(frame, anyio.current_time())
            deliver()
            wake.set()
    return _lost(websocket)


async def _pump(
    websocket: ClientConnection,
    session: SignalingSession,
    wake: Signal,
    deliver: Callable[[], None],
) -> SignalingError:
    """Send, and keep the session's time, until it is enough; returns why."""
    try:
        while not session.close_requested():
            await _send_all(websocket, session)
            await wake.wait(session.deadline())
            session.tick(anyio.current_time())
            deliver()
        # A goodbye queued last still goes out.
        await _send_all(websocket, session)
    except (ConnectionClosed, TimeoutError):
        return _lost(websocket)
    return ConnectionLost("closed by us")


async def _send_all(websocket: ClientConnection, session: SignalingSession) -> None:
    # One at a time: what is taken when the socket breaks is lost with it.
    while frames := session.messages_to_send(limit=1):
        with anyio.fail_after(_SEND_TIMEOUT_S):
            await websocket.send(frames[0])


def _lost(websocket: ClientConnection) -> ConnectionLost:
    code = websocket.close_code
    if code is None:
        return ConnectionLost("the server takes no more messages")
    # 1006 is what a missing close frame is called.
    reason = websocket.close_reason or (
        "connection broken" if code == 1006 else "closed by the server"
    )
    return ConnectionLost(reason, code)


async def close_connection(websocket: ClientConnection) -> None:
    """Close without raising, within a bounded time even when cancelled."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(2.0) as scope:
        await websocket.close()
    if scope.cancelled_caught:
        websocket.transport.abort()
