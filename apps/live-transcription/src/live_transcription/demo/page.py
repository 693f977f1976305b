# SPDX-License-Identifier: AGPL-3.0-or-later
"""A local web page that shows captions as Talk's caption box does.

One page, one stylesheet, one script, one stream of Server-Sent Events; nothing from
elsewhere. Every browser first gets the whole state, then each block that changes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from spreed_signaling.testing._serve import AppServer

from .board import CaptionBoard

__all__ = ["CaptionFeed", "CaptionPage", "page_app"]

_FILES = Path(__file__).with_name("page")

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "captions.js": "text/javascript; charset=utf-8",
}

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""On every answer: the page loads nothing from elsewhere and nothing embeds it."""

QUEUE_EVENTS = 64
"""Events that one browser may be behind (some seconds of captions) before it is
dropped; it then connects again and gets the current state."""

MAX_BROWSERS = 32
"""Open streams, dropped ones that still hang included; more get 503."""

KEEPALIVE_S = 15.0
"""Seconds of quiet after which a comment is sent, so that a dead browser shows."""

_RETRY_MS = 500


class CaptionFeed:
    """The state of the page and the browsers that follow it; needs no server."""

    def __init__(self, people: Sequence[str] = ()) -> None:
        self._board = CaptionBoard(tuple(people))
        self._status = ""
        # Tells a browser that reconnects whether its blocks are of this run.
        self._run = secrets.token_hex(4)
        self._browsers: set[MemoryObjectSendStream[str]] = set()
        self._closed = False

    @property
    def browsers(self) -> int:
        """Number of browsers that follow."""
        return len(self._browsers)

    def show(self, speaker: str, text: str, *, final: bool, lang: str) -> None:
        """Show one caption; never waits."""
        block = self._board.show(speaker, text, final=final, lang=lang)
        if block is not None:
            self._publish("block", block.to_dict())

    def set_status(self, text: str) -> None:
        """Change the line at the top; never waits."""
        self._status = text
        self._publish("status", {"text": text})

    @contextmanager
    def follow(self) -> Generator[MemoryObjectReceiveStream[str], None, None]:
        """Follow: the state first, then every change, as texts of events.

        The stream ends when the feed is closed, or after what was queued if its
        reader falls `QUEUE_EVENTS` behind.
        """
        send, receive = anyio.create_memory_object_stream[str](QUEUE_EVENTS)
        send.send_nowait(f"retry: {_RETRY_MS}\n" + _event("state", self._state()))
        if self._closed:
            send.send_nowait(_event("bye", {}))
            send.close()
        else:
            self._browsers.add(send)
        try:
            with receive:
                yield receive
        finally:
            self._browsers.discard(send)
            send.close()

    def close(self) -> None:
        """Tell every browser that this was all and end their streams."""
        self._closed = True
        self._publish("bye", {})
        for browser in self._browsers:
            browser.close()
        self._browsers.clear()

    def _state(self) -> dict[str, object]:
        return {
            "run": self._run,
            "status": self._status,
            "people": self._board.people,
            "blocks": [block.to_dict() for block in self._board.blocks],
        }

    def _publish(self, kind: str, value: dict[str, object]) -> None:
        event = _event(kind, value)
        for browser in list(self._browsers):
            try:
                browser.send_nowait(event)
            except anyio.WouldBlock:
                self._browsers.discard(browser)
                browser.close()


class _EventStream(Response):
    """One browser's stream. Starlette's own leaves its source open when cancelled."""

    def __init__(self, feed: CaptionFeed, open_streams: set[_EventStream]) -> None:
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        # A stream has no length.
        del self.headers["content-length"]
        self._feed = feed
        self._open_streams = open_streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._open_streams.add(self)
        try:
            with self._feed.follow() as events:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                    await self._write(events, send)
                    tasks.cancel_scope.cancel()
        finally:
            self._open_streams.discard(self)

    async def _write(self, events: MemoryObjectReceiveStream[str], send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        while True:
            text = ": still here\n\n"
            with anyio.move_on_after(KEEPALIVE_S):
                try:
                    text = await events.receive()
                except anyio.EndOfStream:
                    break
            await send(_body(text, more=True))
        await send(_body("", more=False))


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _body(text: str, *, more: bool) -> dict[str, object]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


def _event(kind: str, value: dict[str, object]) -> str:
    # JSON has no raw line ends, so one data line is enough.
    return f"event: {kind}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n"


def page_app(feed: CaptionFeed) -> Starlette:
    """Make the ASGI application of the page.

    It answers only to loopback host names, so that no foreign site can read the
    captions by pointing its own name here.
    """
    files = {name: (_FILES / name).read_bytes() for name in _TYPES}
    open_streams: set[_EventStream] = set()

    async def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in files:
            return Response(status_code=404, headers=_HEADERS)
        return Response(files[name], media_type=_TYPES[name], headers=_HEADERS)

    async def events(request: Request) -> Response:
        if len(open_streams) >= MAX_BROWSERS:
            return Response("too many browsers", status_code=503, headers=_HEADERS)
        return _EventStream(feed, open_streams)

    async def no_icon(request: Request) -> Response:
        return Response(status_code=204, headers=_HEADERS)

    return Starlette(
        routes=[
            Route("/", file),
            Route("/events", events),
            Route("/favicon.ico", no_icon),
            Route("/{name}", file),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
        ],
    )


class CaptionPage:
    """The page, served on a loopback address while the context is open.

    Enter and leave it in the same task. Leaving tells open browsers that the demo
    has ended and returns within a few seconds.

    Args:
        port: Port to listen on; 0 lets the system choose.
        people: Display names of those who will speak, for their tiles.

    Raises:
        OSError: On entering, if the port is taken.
    """

    def __init__(self, *, port: int = 0, people: Sequence[str] = ()) -> None:
        self._port = port
        self._feed = CaptionFeed(people)
        self._server: AppServer | None = None

    @property
    def url(self) -> str:
        """Address of the page, while the context is open."""
        if self._server is None:
            raise RuntimeError("the page has an address only while it is served")
        return f"{self._server.url}/"

    @property
    def browsers(self) -> int:
        """Number of browsers that show the page now."""
        return self._feed.browsers

    def show(self, speaker: str, text: str, final: bool, lang: str) -> None:
        """Show one caption; never waits. A slow browser is dropped and comes back.

        Args:
            speaker: Display name.
            text: Cumulative text since this speaker's last final.
            final: Whether it stays.
            lang: Language id of Talk, e.g. "en" or "pt_BR".
        """
        self._feed.show(speaker, text, final=final, lang=lang)

    def set_status(self, text: str) -> None:
        """Change the line at the top; never waits."""
        self._feed.set_status(text)

    async def __aenter__(self) -> Self:
        server = AppServer(page_app(self._feed), port=self._port)
        await server.__aenter__()
        self._server = server
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._server is None:
            raise AssertionError("left without having been entered")
        # Ends the streams, for which the server would wait otherwise.
        self._feed.close()
        server, self._server = self._server, None
        return await server.__aexit__(exc_type, exc, traceback)
