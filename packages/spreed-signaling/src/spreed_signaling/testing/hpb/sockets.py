# SPDX-License-Identifier: MIT
"""The embedded server's WebSocket side: one reader and one writer per client."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from .dispatch import Dispatcher
from .hub import Hub
from .options import HpbOptions
from .state import Link

__all__ = ["Sockets"]

_NORMAL, _TRY_AGAIN_LATER = 1000, 1013


class Sockets:
    """Serves clients until they or the server end the connection.

    Args:
        hub: Told about connections.
        dispatcher: Handles their frames, one at a time per connection.
        options: Limits.
        features: The value of the feature header.
        changed: Called after each frame and each connection.
    """

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        options: HpbOptions,
        *,
        features: str,
        changed: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._dispatcher = dispatcher
        self._options = options
        self._header = (b"x-spreed-signaling-features", features.encode())
        self._changed = changed
        self._gone = anyio.Event()

    async def wait_gone(self) -> None:
        """Return when all connections that stand now are gone; cancellable."""
        links = set(self._hub.links)
        while links & self._hub.links:
            await self._gone.wait()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection; returns when it has ended."""
        await websocket.accept(headers=[self._header])
        address = websocket.client.host if websocket.client is not None else ""
        link = Link(address=address, limit=self._options.max_queued_messages)
        self._hub.connect(link, time.monotonic())
        self._changed()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, websocket, link)
                await self._read(websocket, link)
                tasks.cancel_scope.cancel()
        finally:
            self._hub.disconnect(link, time.monotonic())
            self._changed()
            gone, self._gone = self._gone, anyio.Event()
            gone.set()

    async def _read(self, websocket: WebSocket, link: Link) -> None:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if link.closing:
                continue
            await self._dispatcher.handle(link, message.get("text"))
            self._changed()

    async def _write(self, websocket: WebSocket, link: Link) -> None:
        wake = anyio.Event()

        def on_wake() -> None:
            wake.set()

        link.wake = on_wake
        try:
            while True:
                while link.outgoing and not link.cut:
                    await websocket.send_text(link.outgoing.popleft())
                if link.closing or link.cut:
                    code = _TRY_AGAIN_LATER if link.cut else _NORMAL
                    await websocket.close(code)
                    return
                await wake.wait()
                wake = anyio.Event()
        except (WebSocketDisconnect, RuntimeError):
            # The client is gone; the reader notices it too.
            return
