# SPDX-License-Identifier: MIT
"""How the checks reach a gateway: pages, and streams whose every message is timed.

Not by `ModalBackend`: it hides what is to be seen here, statuses and close codes.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt
from attrs import field, frozen
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
)

__all__ = ["Page", "Refused", "Stream", "Target", "get", "open_stream"]

Samples = npt.NDArray[np.float32]

MAX_MESSAGE = 1 << 20
LONGEST_PAGE = 1 << 20


class Refused(Exception):
    """No stream came about; `status` is the HTTP status, if there was one."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@frozen(kw_only=True)
class Target:
    """A gateway and how to get in."""

    url: str
    """Address of the stream, `ws` or `wss`."""
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """Credentials."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """For `wss`; None trusts the system's certificates."""

    @property
    def secure(self) -> bool:
        """Whether it is reached by TLS."""
        return urlsplit(self.url).scheme == "wss"

    def page(self, path: str) -> str:
        """Return the address of a page."""
        parts = urlsplit(self.url)
        return f"{'https' if self.secure else 'http'}://{parts.netloc}{path}"


@frozen(kw_only=True)
class Page:
    """An HTTP answer."""

    status: int
    body: str = field(repr=False)

    def json(self) -> dict[str, Any]:
        """Return the body as an object; empty if it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


async def get(target: Target, path: str, *, timeout_s: float) -> Page:
    """Fetch a page, redirects followed.

    Raises:
        Refused: If nobody answers in time.
    """

    def fetch() -> Page:
        context = target.tls or ssl.create_default_context()
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
        )
        request = urllib.request.Request(
            target.page(path), headers=dict(target.headers)
        )
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return _page(answer.status, answer.read(LONGEST_PAGE))
        except urllib.error.HTTPError as exc:
            with exc:
                return _page(exc.code, exc.read(LONGEST_PAGE))

    try:
        return await anyio.to_thread.run_sync(fetch, abandon_on_cancel=True)
    except (OSError, ValueError) as exc:
        raise Refused(f"no answer from {target.page(path)}: {exc}") from exc


def _page(status: int, body: bytes) -> Page:
    return Page(status=status, body=body.decode("utf-8", "replace"))


class Stream:
    """One open stream; everything that comes is kept with its time.

    Args:
        socket: Open.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._news = anyio.Event()
        self.messages: list[tuple[float, dict[str, Any]]] = []
        """What came, each with the moment (`anyio.current_time`)."""
        self.ended = False
        """Whether the other side has closed it."""
        self.code: int | None = None
        """Close code; None while open, or if there was none."""
        self.reason = ""
        """Of the close."""

    def of(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        """Return the messages of one type."""
        return [one for one in self.messages if one[1].get("type") == kind]

    async def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something holds, the stream has ended, or time is up.

        Returns:
            Whether it holds.
        """
        with anyio.move_on_after(timeout_s):
            while not holds() and not self.ended:
                await self._news.wait()
        return holds()

    async def until_ended(self, timeout_s: float) -> bool:
        """Wait for the other side to close."""
        return await self.until(lambda: self.ended, timeout_s)

    async def send(self, data: Samples | bytes | Mapping[str, object]) -> None:
        """Send audio, bytes, or a control message; nothing once it has ended."""
        raw: str | bytes
        if isinstance(data, bytes):
            raw = data
        elif isinstance(data, np.ndarray):
            raw = data.astype("<f4").tobytes()
        else:
            raw = json.dumps(data)
        try:
            await self._socket.send(raw)
        except ConnectionClosed:
            return

    async def round_trip_s(self, timeout_s: float) -> float | None:
        """Return how long a websocket ping takes; None without an answer."""
        try:
            answered = await self._socket.ping()
            with anyio.move_on_after(timeout_s):
                return await answered
        except ConnectionClosed:
            pass
        return None

    async def read(self) -> None:
        """Keep what comes until the end."""
        try:
            async for raw in self._socket:
                self._keep(raw)
        except ConnectionClosed:
            pass
        finally:
            self.ended = True
            frame = self._socket.protocol.close_rcvd
            if frame is not None:
                self.code, self.reason = frame.code, frame.reason
            self._tell()

    def _keep(self, raw: str | bytes) -> None:
        try:
            message = json.loads(raw)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            message = {"type": "(no JSON object)"}
        self.messages.append((anyio.current_time(), message))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()


@asynccontextmanager
async def open_stream(target: Target, *, timeout_s: float) -> AsyncIterator[Stream]:
    """Open a stream; it is closed on the way out.

    Args:
        target: Where.
        timeout_s: Seconds for the upgrade, which on Modal waits for a container.

    Raises:
        Refused: If there is no upgrade.
    """
    try:
        socket = await connect(
            target.url,
            additional_headers=dict(target.headers),
            ssl=target.tls if target.secure else None,
            compression=None,
            open_timeout=timeout_s,
            ping_interval=None,
            close_timeout=5,
            max_size=MAX_MESSAGE,
            proxy=None,
        )
    except InvalidStatus as exc:
        body = (exc.response.body or b"").decode("utf-8", "replace").strip()
        status = exc.response.status_code
        raise Refused(f"HTTP {status} {body[:100]}".strip(), status) from exc
    except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as exc:
        why = str(exc) or type(exc).__name__
        raise Refused(f"no stream: {why}") from exc
    stream = Stream(socket)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.read)
        try:
            yield stream
        finally:
            with anyio.CancelScope(shield=True):
                await socket.close()
            tasks.cancel_scope.cancel()
