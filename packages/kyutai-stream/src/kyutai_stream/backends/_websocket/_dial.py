# SPDX-License-Identifier: MIT
"""Open, use and leave a websocket; its failures are mapped here, once."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import anyio
from attrs import field, frozen
from websockets.asyncio.client import connect
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
)
from websockets.http11 import Response

from ...errors import (
    AuthError,
    CapacityError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
    ProtocolError,
)
from ...wire.address import address_for_people
from ._direct import MAX_MESSAGE, DirectConnection

__all__ = ["DialOptions", "Ended", "Socket", "dial"]

logger = logging.getLogger("kyutai_stream.websocket")
# At DEBUG websockets logs headers and messages: keys and speech.
logger.setLevel(logging.INFO)

CLOSE_S = 2.0
"""Leaving takes no longer, whatever the peer does."""

HANDSHAKE_S = 1.5
"""Of that, the time for the peer to answer the close frame."""

MAX_UNREAD = 64
"""Messages that `websockets` reads ahead of the session before it stops."""

OURS = (1002, 1007, 1009)
"""Close codes that `websockets` sends when the peer breaks the rules."""


def _check_headers(
    options: object, attribute: object, headers: Mapping[str, str]
) -> None:
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"{name} holds characters that no key has")


@frozen(kw_only=True)
class DialOptions:
    """How to reach a server."""

    headers: Mapping[str, str] = field(repr=False, validator=_check_headers)
    """Sent with the handshake; hold secrets, never shown."""
    open_timeout_s: float
    """Seconds for TCP, TLS and the upgrade."""
    ping_interval_s: float = 10.0
    """Seconds between pings; a peer that answers none is half-open."""
    ping_timeout_s: float = 15.0
    """Seconds to wait for the answer."""
    tls: ssl.SSLContext | None = None
    """For `wss`; None for the system's certificates."""
    proxy: str | Literal[True] | None = field(default=None, repr=False)
    """Address of a proxy; True reads the environment, None goes directly."""


class Ended(Exception):
    """The connection is over.

    Args:
        code: Close code of the peer; 1006 where there was none.
        by_us: Code with which this side gave up, if it did.
    """

    def __init__(self, code: int, by_us: int | None = None) -> None:
        super().__init__(f"closed with code {code}")
        self.code = code
        self.by_us = by_us

    def as_error(self) -> KyutaiStreamError:
        """The error for a connection that worked until then."""
        if self.by_us in OURS:
            return ProtocolError(f"the server broke the protocol (code {self.by_us})")
        if self.by_us is not None:
            return ConnectionLost("the server stopped answering pings")
        return ConnectionLost(f"the server closed the connection (code {self.code})")


class _Connect(connect):
    """Follows no redirect: keys in headers are for the address that was given."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def dial(url: str, options: DialOptions) -> Socket:
    """Open a websocket; the caller closes it.

    Raises:
        AuthError: If the server refuses the keys (401, 403).
        CapacityError: If it is full or starting (429, 503, a redirect to a queue).
        ConfigError: If there is no such stream at the address.
        ConnectFailed: For everything that may work later.
    """
    where = address_for_people(url)
    more: dict[str, Any] = {}
    if options.tls is not None and url.startswith("wss:"):
        more["ssl"] = options.tls
    try:
        connection = await _Connect(
            url,
            additional_headers=dict(options.headers),
            compression=None,
            logger=logger,
            open_timeout=options.open_timeout_s,
            ping_interval=options.ping_interval_s,
            ping_timeout=options.ping_timeout_s,
            close_timeout=HANDSHAKE_S,
            max_size=MAX_MESSAGE,
            max_queue=MAX_UNREAD,
            proxy=options.proxy,
            create_connection=DirectConnection,
            **more,
        )
    except InvalidStatus as exc:
        raise _refusal(exc.response, where) from exc
    except InvalidURI as exc:
        # The redirect of a queue (303) leads to an https address.
        raise CapacityError(f"{where} is busy: it redirects to a queue") from exc
    except InvalidProxy as exc:
        raise ConfigError("the address of the proxy is wrong") from exc
    except UnicodeError as exc:
        raise ConfigError(f"{where} is no name of a host") from exc
    except TimeoutError as exc:
        raise ConnectFailed(
            f"{where} did not answer within {options.open_timeout_s:g} s"
        ) from exc
    except (OSError, InvalidHandshake) as exc:
        raise ConnectFailed(f"{where} cannot be reached: {_short(exc)}") from exc
    return Socket(cast(DirectConnection, connection))


def _refusal(response: Response, where: str) -> KyutaiStreamError:
    status = response.status_code
    said = f"{where} answered HTTP {status}"
    if status in (401, 403):
        return AuthError(f"{said}: the keys are wrong or missing")
    if status in (303, 429, 503):
        after_s = retry_after_s(response.headers.get("Retry-After"))
        return CapacityError(
            f"{said}: it is full or still starting", retry_after_s=after_s
        )
    if status >= 500 or status == 408:
        return ConnectFailed(said)
    if 300 <= status < 400:
        return ConfigError(f"{said}: it has moved, give the new address")
    return ConfigError(f"{said}: there is no such stream")


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header; None if it is missing or a date."""
    if value is None or not value.strip().isascii() or not value.strip().isdigit():
        return None
    return float(value)


def _short(exc: BaseException) -> str:
    return str(exc).partition("\n")[0][:120] or type(exc).__name__


class Socket:
    """A websocket whose failures are `Ended`, and which can always be left."""

    def __init__(self, connection: DirectConnection) -> None:
        self._connection = connection

    @property
    def writable(self) -> bool:
        """Whether `send` of bytes would not wait, and not fail."""
        return self._connection.writable

    def send_now(self, message: bytes) -> None:
        """Send one message; only while `writable`."""
        self._connection.write(message)

    def hand_on(self, sink: Callable[[bytes], None] | None) -> None:
        """Give binary messages to `sink` as they come, instead of to `receive`.

        Args:
            sink: Called by the event loop; must not raise. It is forgotten when
                something else comes: then `receive` has the next message.
        """
        self._connection.sink = sink

    def header(self, name: str) -> str | None:
        """A header of the server's answer to the handshake; None if it is missing."""
        response = self._connection.response
        return None if response is None else response.headers.get(name)

    async def send(self, message: bytes | str) -> None:
        """Send one message; waits while the peer does not read.

        Raises:
            ConnectionLost: If the connection is over.
            ProtocolError: If it is over because the peer broke the protocol.
        """
        if isinstance(message, bytes) and self._connection.writable:
            self._connection.write(message)
            return
        try:
            await self._connection.send(message)
        except ConnectionClosed as exc:
            raise _ended(exc).as_error() from exc

    async def receive(self) -> bytes | str:
        """Wait for the next message; may be cancelled without loss.

        Raises:
            Ended: If the connection is over.
        """
        try:
            return await self._connection.recv()
        except ConnectionClosed as exc:
            raise _ended(exc) from exc

    async def close(self) -> None:
        """Leave: politely if that is quick, within 2 s in any case."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(CLOSE_S):
                async with anyio.create_task_group() as tasks:
                    # What is unread would keep the peer's close frame back.
                    tasks.start_soon(self._discard)
                    await self._connection.close()
                    tasks.cancel_scope.cancel()
            self._connection.transport.abort()
            await self._connection.wait_closed()

    async def _discard(self) -> None:
        # Somebody else may still be reading: that serves as well.
        with contextlib.suppress(ConnectionClosed, ConcurrencyError):
            while True:
                await self._connection.recv()


def _ended(exc: ConnectionClosed) -> Ended:
    if exc.rcvd is not None:
        return Ended(exc.rcvd.code)
    return Ended(1006, by_us=exc.sent.code if exc.sent is not None else None)
