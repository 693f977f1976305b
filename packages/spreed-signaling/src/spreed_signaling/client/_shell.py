# SPDX-License-Identifier: MIT
"""One socket after the other for one session, and the clock in between."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from websockets.asyncio.client import ClientConnection

from .._tasks import Signal, open_task_group
from ..connection import TransportOptions, close_connection, drive, open_connection
from ..errors import SignalingError
from ..protocol.phases import Phase
from ..protocol.session import SignalingSession

__all__ = ["Shell"]

_GOODBYE_S = 2.0
"""Leaving is not worth waiting longer; the server ends silent sessions itself."""

_CONNECTING_TICK_S = 0.5
"""While a socket opens, messages that wait expire with this precision."""


class Shell:
    """Does what a session asks for: connect, drive, wait, connect again.

    Args:
        url: The WebSocket endpoint.
        transport: How to open sockets.
        session: Decides everything.
        deliver: Called after every step, for the session's events.
        end: Called when nothing more will happen; harmless to call again.
    """

    def __init__(
        self,
        url: str,
        transport: TransportOptions,
        session: SignalingSession,
        *,
        deliver: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        self.wake = Signal()
        """To be set when the session has something to send, or another deadline."""
        self.finished = anyio.Event()
        """Set when nothing more will happen."""
        self._url = url
        self._transport = transport
        self._session = session
        self._deliver = deliver
        self._end = end
        # Shielded: cancelling the application must not cut off its goodbye.
        self._running = anyio.CancelScope(shield=True)

    async def run(self) -> None:
        """Keep the session connected until it is over; then end everything."""
        session = self._session
        try:
            with self._running:
                while session.status().phase is not Phase.FINISHED:
                    if session.wants_connection(anyio.current_time()):
                        await self._use_one_connection()
                    else:
                        await self.wake.wait(session.deadline())
                        session.tick(anyio.current_time())
                    self._deliver()
        finally:
            self._finish()

    async def goodbye(self) -> None:
        """Say goodbye and stop running, within a bounded time even when cancelled."""
        with anyio.CancelScope(shield=True):
            self._session.bye(anyio.current_time())
            self.wake.set()
            # Only an open session has somebody to say goodbye to: an attempt to
            # connect that is under way is simply given up.
            if self._session.status().phase is not Phase.FINISHED:
                with anyio.move_on_after(_GOODBYE_S):
                    await self.finished.wait()
            self._running.cancel()
        self._finish()

    async def _use_one_connection(self) -> None:
        session = self._session
        try:
            websocket = await self._open()
        except SignalingError as exc:
            session.connection_lost(exc, anyio.current_time())
            return
        session.connection_opened(anyio.current_time())
        error = await drive(websocket, session, self.wake, self._deliver)
        session.connection_lost(error, anyio.current_time())

    async def _open(self) -> ClientConnection:
        websocket: ClientConnection | None = None
        try:
            async with open_task_group() as tasks:
                tasks.start_soon(self._keep_time)
                websocket = await open_connection(self._url, self._transport)
                tasks.cancel_scope.cancel()
        except BaseException:
            # Cancelled just after the socket had opened.
            if websocket is not None:
                await close_connection(websocket)
            raise
        return websocket

    async def _keep_time(self) -> None:
        while True:
            await anyio.sleep(_CONNECTING_TICK_S)
            self._session.tick(anyio.current_time())
            self._deliver()

    def _finish(self) -> None:
        self._deliver()
        self.finished.set()
        self._end()
