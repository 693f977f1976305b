# SPDX-License-Identifier: MIT
"""The gateway as a plain ASGI application: routes, places, drain.

| Route | |
|---|---|
| `GET /livez` | 200: the process is alive |
| `GET /readyz` | 200: a stream would be served; else 503 and why |
| `GET /capacity` | `{"used", "total", "draining"}` |
| `GET /metrics` | Prometheus text, the model server's appended |
| `GET /v1/warm` | waits until the model is ready, at most `warm_wait_s` |
| `WS /v1/stream` | protocol 1 |

What is below `/v1` wants credentials. No framework: ASGI messages are read with
`get`, because servers leave keys out (Modal's disconnect has no code).
"""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Literal, Protocol

from . import http
from .auth import Credentials
from .http import Answer
from .logs import log
from .metrics import Metrics
from .pages import PAGES
from .stream import Message, Receive, Send, StreamRules
from .stream.direct import EXTENSION
from .stream.messages import CLOSE_CODES, Code, error
from .streams import Streams
from .upstream import Upstream, UpstreamState

__all__ = ["Gateway", "Settings", "create_app"]

STREAM_PATH = "/v1/stream"

ACCEPT = {"type": "websocket.accept", "headers": [(b"kyutai-protocol", b"1")]}
"""Tells clients at once what they talk to: `ready` may come much later."""

BAD_CREDENTIALS = "credentials are missing or wrong\n"

REFUSALS: dict[Code, str] = {
    "capacity": "all places are taken",
    "draining": "the gateway is going away",
}


class Settings(Protocol):
    """What the application reads of its settings (`GatewaySettings` has it)."""

    @property
    def auth(self) -> Literal["pair", "bearer", "none"]:
        """What clients must show."""

    @property
    def key(self) -> str:
        """For `pair`."""

    @property
    def secret(self) -> str:
        """For `pair`."""

    @property
    def bearer(self) -> str:
        """For `bearer`."""

    @property
    def max_stream_s(self) -> float:
        """Age at which a stream is asked to reconnect."""

    @property
    def idle_timeout_s(self) -> float:
        """Without a message of the client."""

    @property
    def quiet_timeout_s(self) -> float:
        """Without speech."""


def create_app(
    settings: Settings,
    upstream: Upstream,
    *,
    running: AbstractAsyncContextManager[object] | None = None,
    rules: StreamRules | None = None,
) -> Gateway:
    """Make the application.

    Args:
        settings: Credentials and times.
        upstream: The model server. What it has beyond the protocol is used as well:
            `http_url` (its `/metrics` are appended to ours), `cold_start` (told by
            `/v1/warm`), `first_word` (called at the first word of each stream).
        running: Entered at the lifespan's start-up and left at its shutdown, such as
            a supervisor; not needed where somebody else runs it.
        rules: All times and bounds of streams; None takes three from the settings
            and the defaults for the rest.

    Raises:
        ValueError: If credentials are needed and missing.
    """
    return Gateway(
        credentials=Credentials(
            mode=settings.auth,
            key=settings.key,
            secret=settings.secret,
            bearer=settings.bearer,
        ),
        upstream=upstream,
        rules=rules
        or StreamRules(
            max_stream_s=settings.max_stream_s,
            idle_timeout_s=settings.idle_timeout_s,
            quiet_timeout_s=settings.quiet_timeout_s,
        ),
        running=running,
    )


class Gateway:
    """The ASGI application; see `create_app`."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        upstream: Upstream,
        rules: StreamRules,
        running: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        self._credentials = credentials
        self._upstream = upstream
        self._rules = rules
        self._running = running
        self.metrics = Metrics()
        """What happened since the start."""
        self.streams = Streams(upstream, rules, self.metrics)
        """Those that are open."""
        self.draining = False
        """Whether new streams are refused; set by `drain`."""

    @property
    def used(self) -> int:
        """Streams being served."""
        return self.streams.used

    @property
    def total(self) -> int:
        """Streams that can be served at a time."""
        return self.streams.total

    @property
    def unready(self) -> str:
        """Why a new stream would not be served; empty if it would."""
        if self.draining:
            return "draining"
        if self._upstream.state is not UpstreamState.READY:
            return self._upstream.state.value
        return "full" if self.streams.full else ""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, websocket or lifespan."""
        match scope.get("type"):
            case "websocket":
                await self._websocket(scope, receive, send)
            case "http":
                await self._http(scope, send)
            case "lifespan":
                await self._lifespan(receive, send)

    async def drain(self, deadline_s: float) -> None:
        """Refuse new streams, let the open ones end, return when all have.

        Args:
            deadline_s: Seconds until the last is closed; the call takes 5 s more at
                most.
        """
        self.draining = True
        await self.streams.drain(deadline_s)

    # -- websockets ----------------------------------------------------------------

    async def _websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        message = await receive()
        if message.get("type") != "websocket.connect":
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await http.refuse_upgrade(refusal, send, scope.get("extensions"))
            return
        code: Code | None = None
        if self.draining:
            code = "draining"
        elif self.streams.full:
            code = "capacity"
        if code is not None:
            await self._turn_away(code, send)
            return
        with self.streams.place():
            await send(ACCEPT)
            direct = (scope.get("extensions") or {}).get(EXTENSION)
            await self.streams.serve(receive, send, direct)

    def _refusal(self, scope: Message) -> Answer | None:
        if not self._admitted(scope):
            return Answer(status=401, body=BAD_CREDENTIALS)
        if scope.get("path") != STREAM_PATH:
            return Answer(status=404, body="there is no such stream\n")
        return None

    async def _turn_away(self, code: Code, send: Send) -> None:
        self.metrics.refused[code] += 1
        log("refused", code=code, used=self.used, total=self.total)
        # Told before the close: some proxies lose its code.
        text = error(code, REFUSALS[code], retryable=True)
        try:
            await send(ACCEPT)
            await send({"type": "websocket.send", "text": text})
            close = {"code": CLOSE_CODES[code], "reason": code}
            await send({"type": "websocket.close", **close})
        except OSError:
            # It has gone by itself.
            return

    # -- HTTP ----------------------------------------------------------------------

    async def _http(self, scope: Message, send: Send) -> None:
        answer = await self._answer(scope)
        try:
            await http.send_answer(answer, send, head=scope.get("method") == "HEAD")
        except OSError:
            # It did not wait for the answer.
            return

    async def _answer(self, scope: Message) -> Answer:
        path = scope.get("path")
        page = PAGES.get(path if isinstance(path, str) else "")
        if path == STREAM_PATH:
            headers = {"upgrade": "websocket"}
            return Answer(status=426, body="this is a websocket\n", headers=headers)
        if page is None:
            return Answer(status=404, body="there is no such page\n")
        if scope.get("method") not in ("GET", "HEAD"):
            headers = {"allow": "GET, HEAD"}
            return Answer(status=405, body="only GET and HEAD\n", headers=headers)
        if path == "/v1/warm" and not self._admitted(scope):
            return Answer(status=401, body=BAD_CREDENTIALS)
        return await page(self)

    @property
    def upstream(self) -> Upstream:
        """The model server."""
        return self._upstream

    @property
    def rules(self) -> StreamRules:
        """Times and bounds."""
        return self._rules

    def _admitted(self, scope: Message) -> bool:
        if self._credentials.admit(scope.get("headers") or ()):
            return True
        self.metrics.refused["401"] += 1
        log("refused", code=401)
        return False

    # -- lifespan ------------------------------------------------------------------

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self._running or nullcontext():
                await send({"type": "lifespan.startup.complete"})
                await receive()
                self.draining = True
        except Exception as exc:
            log("lifespan_failed", level=logging.ERROR, exc=exc)
            # Before the start was confirmed the server wants to hear of it.
            await send({"type": "lifespan.startup.failed", "message": ""})
            raise
        await send({"type": "lifespan.shutdown.complete"})
