# SPDX-License-Identifier: MIT
"""The embedded server's shell: sockets, HTTP, one timer, background work."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from attrs import field, frozen
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from .._serve import AppServer
from . import frames
from .backend import BackendClient, BackendFailure
from .dispatch import Dispatcher
from .effects import Effect, MediaEnded, RoomLeft, RoomPing
from .hello import Greeter, ServerSecrets
from .http_api import HttpApi
from .hub import Hub
from .loopback import loopback_when_alone
from .mcu import MediaRelay
from .options import VERSION, HpbOptions
from .sockets import Sockets
from .state import ResumeIds
from .throttle import Throttle

__all__ = ["EmbeddedHpb", "SessionView"]

logger = logging.getLogger("spreed_signaling.testing.hpb")

_WS_PING_S = 54.0
"""HPB 2.0.2's interval."""

_CUT_LIMIT_S = 5.0
"""Limit for noticing that sockets were cut; it takes milliseconds."""


@frozen(kw_only=True)
class SessionView:
    """What the server knows about one client, for assertions."""

    session_id: str
    user_id: str
    internal: bool
    connected: bool
    """False while the session only waits to be resumed."""
    room_token: str | None
    in_call: bool
    publishing: tuple[str, ...]
    """Room types with living media."""
    subscribed_to: tuple[str, ...] = field(repr=False)
    """Session ids."""


class EmbeddedHpb:
    """Talk's signaling server and media server, inside this process.

    Use it as an asynchronous context manager, entered and left in one task:

        async with EmbeddedHpb(
            backend_url=nextcloud.url,
            backend_secret=nextcloud.backend_secret,
            internal_secret="the-internal-secret",
        ) as hpb:
            ...  # connect clients to hpb.url

    Leaving it looks like a killed server to clients: sockets end with 1006, media
    ends at once, Nextcloud is not told. A second instance may then use the port.

    Args:
        backend_url: Nextcloud's base URL.
        backend_secret: The secret shared with Nextcloud.
        internal_secret: The secret of internal clients; empty allows none.
        port: Port on `host`; 0 lets the system choose.
        host: IPv4 address to listen on.
        options: Timings and limits.

    Raises:
        OSError: If the address is taken.
    """

    kind: Final = "embedded"
    version: Final = VERSION

    def __init__(
        self,
        *,
        backend_url: str,
        backend_secret: str,
        internal_secret: str,
        port: int = 0,
        host: str = "127.0.0.1",
        options: HpbOptions | None = None,
    ) -> None:
        self.options = options or HpbOptions()
        self.internal_secret = internal_secret
        self.media_loss: Callable[[int], bool] | None = None
        """Set to lose audio packets on their way through the server: called with
        the number of each packet of a publisher, counted from 0; True loses it."""
        self._backend_url = backend_url.rstrip("/")
        self._backend_secret = backend_secret
        self._media = importlib.util.find_spec("aiortc") is not None
        wall = datetime.now(UTC).timestamp()
        self._hub = Hub(self.options, media=self._media, epoch=wall - time.monotonic())
        self._throttle = Throttle(self.options)
        self._backend = BackendClient(
            backend_secret,
            timeout_s=self.options.backend_timeout_s,
            media=self._media,
        )
        self._relay = self._make_relay()
        self._sockets = self._make_sockets()
        self._server = AppServer(
            self._make_app(),
            port=port,
            host=host,
            ws_max_size=self.options.max_message_bytes,
            ws_ping_interval_s=_WS_PING_S,
        )
        self._kicked = anyio.Event()
        self._stack: contextlib.AsyncExitStack | None = None
        self._tasks: TaskGroup | None = None

    @property
    def url(self) -> str:
        """Base URL; clients append `/spreed`."""
        return self._server.url

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        """All sessions, those included that wait to be resumed."""
        sfu = self._relay.sfu if self._relay is not None else None
        return tuple(
            SessionView(
                session_id=item.session_id,
                user_id=item.user_id,
                internal=item.internal,
                connected=item.link is not None,
                room_token=None if item.room is None else item.room.token,
                in_call=item.room is not None and item.room.is_in_call(item),
                publishing=sfu.published(item.session_id) if sfu else (),
                subscribed_to=sfu.subscribed(item.session_id) if sfu else (),
            )
            for item in self._hub.sessions.values()
        )

    async def drop_connections(self) -> None:
        """Cut all sockets without a goodbye, as a broken network does.

        Sessions can be resumed, media runs on. Returns when the server has
        noticed. Safe to cancel.
        """
        self._server.abort()
        with anyio.fail_after(_CUT_LIMIT_S):
            await self._sockets.wait_gone()

    async def __aenter__(self) -> EmbeddedHpb:
        async with contextlib.AsyncExitStack() as stack:
            if self._media:
                stack.enter_context(loopback_when_alone())
            stack.push_async_callback(self._backend.aclose)
            if self._relay is not None:
                stack.push_async_callback(self._relay.aclose)
            self._tasks = tasks = anyio.create_task_group()
            await stack.enter_async_context(tasks)
            stack.callback(tasks.cancel_scope.cancel)
            await stack.enter_async_context(self._server)
            # First of all, sockets end as those of a killed server do.
            stack.callback(self._server.abort)
            tasks.start_soon(self._run_clock)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._stack is None:
            raise AssertionError("left without having been entered")
        stack, self._stack = self._stack, None
        if isinstance(exc, Exception):
            # The body's own error goes on as it is, not inside a group.
            await stack.aclose()
            return None
        return await stack.__aexit__(exc_type, exc, traceback)

    # Parts.

    def _make_relay(self) -> MediaRelay | None:
        if not self._media:
            return None
        return MediaRelay(self._hub, self.options, spawn=self._spawn, lose=self._lose)

    def _make_sockets(self) -> Sockets:
        greeter = Greeter(
            self._hub,
            ServerSecrets(
                backend_url=self._backend_url, internal_secret=self.internal_secret
            ),
            backend=self._backend,
            throttle=self._throttle,
            resume_ids=ResumeIds(self._backend_secret),
        )
        dispatcher = Dispatcher(self._hub, greeter, self._backend, self._relay)
        return Sockets(
            self._hub,
            dispatcher,
            self.options,
            features=self._features(),
            changed=self._kick,
        )

    def _make_app(self) -> Starlette:
        http = HttpApi(
            self._hub,
            self.options,
            self._throttle,
            backend_url=self._backend_url,
            backend_secret=self._backend_secret,
            features=self._features(),
            changed=self._kick,
        )
        socket = WebSocketRoute("/spreed", self._sockets.serve)
        return Starlette(routes=[socket, *http.routes()])

    def _features(self) -> str:
        return ", ".join(frames.features(media=self._media, internal=False))

    # Time and background work.

    def _kick(self) -> None:
        """Carry out what the hub asks for, and set the timer anew."""
        self._kicked.set()
        for effect in self._hub.take_effects():
            self._carry_out(effect)

    async def _run_clock(self) -> None:
        while True:
            self._kicked = anyio.Event()
            deadline = self._hub.deadline()
            delay = None if deadline is None else deadline - time.monotonic()
            with anyio.move_on_after(delay):
                await self._kicked.wait()
            self._hub.tick(time.monotonic())
            for effect in self._hub.take_effects():
                self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case MediaEnded():
                if self._relay is not None:
                    self._relay.ended(effect.session_id)
            case RoomLeft():
                body: dict[str, Any] = {
                    "roomid": effect.room_token,
                    "action": "leave",
                    "userid": effect.user_id,
                    "sessionid": effect.nc_session_id,
                }
                self._spawn(self._tell, effect.backend_url, "room", body)
            case RoomPing():
                entries = [
                    {"userid": user_id, "sessionid": nc_session_id}
                    if user_id
                    else {"sessionid": nc_session_id}
                    for user_id, nc_session_id in effect.entries
                ]
                body = {"roomid": effect.room_token, "entries": entries}
                self._spawn(self._tell, effect.backend_url, "ping", body)

    async def _tell(self, url: str, kind: str, body: dict[str, Any]) -> None:
        """Send Nextcloud a request whose answer does not matter."""
        try:
            await self._backend.call(url, kind, body)
        except BackendFailure as exc:
            logger.warning("Nextcloud did not take a %s request: %s", kind, exc)

    def _lose(self, index: int) -> bool:
        return self.media_loss is not None and self.media_loss(index)

    def _spawn(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        if self._tasks is None:
            raise AssertionError("clients are served only while entered")
        self._tasks.start_soon(self._logged, function, args)

    async def _logged(
        self, function: Callable[..., Awaitable[None]], args: tuple[Any, ...]
    ) -> None:
        try:
            await function(*args)
        except Exception:
            # One client's trouble must not end the server.
            logger.exception("background work failed")
