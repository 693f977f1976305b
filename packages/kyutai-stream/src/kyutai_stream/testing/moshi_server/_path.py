# SPDX-License-Identifier: MIT
"""The way between a client and the fake server, and how a test may disturb it."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame

from .._endings import end_socket
from .options import ConnectionPlan

__all__ = ["Path", "WatchedConnection"]

LINGER_S = 1.0


class WatchedConnection(ServerConnection):
    """A websockets connection that tells of every frame, control frames included."""

    plan: ConnectionPlan = ConnectionPlan()
    """What shall go wrong on it, once it is accepted."""
    on_frame: Callable[[Frame], bool] | None = None
    """Called with each frame; False if it must not be looked at any more."""

    def process_event(self, event: object) -> None:
        """See frames before the library answers pings and closes."""
        if isinstance(event, Frame) and self.on_frame is not None:
            if not self.on_frame(event):
                return
        super().process_event(event)  # type: ignore[arg-type]  # its Event alias


class Path:
    """A socket whose traffic can be held up, and that ends in every way there is.

    Args:
        socket: The websocket.
    """

    def __init__(self, socket: WatchedConnection) -> None:
        self._socket = socket
        self._clear = anyio.Event()
        self._clear.set()
        self.half_open = False
        """Whether all traffic is swallowed."""
        self.heal_at = math.inf
        """Loop time at which that is to end."""

    @property
    def close_code(self) -> int | None:
        """Code of the client's Close frame; None if none came."""
        received = self._socket.protocol.close_rcvd
        return None if received is None else received.code

    def swallow(self, for_s: float | None) -> None:
        """Let nothing through, for so long or until `restore`."""
        self.half_open = True
        self._clear = anyio.Event()
        self.heal_at = math.inf if for_s is None else anyio.current_time() + for_s
        self.stop_reading()

    def restore(self) -> None:
        """Let everything that is to be sent through; reading is another matter."""
        self.half_open = False
        self.heal_at = math.inf
        self._clear.set()

    async def wait_clear(self) -> None:
        """Wait while traffic is swallowed."""
        await self._clear.wait()

    def stop_reading(self) -> None:
        """Read nothing any more; the client's buffers fill."""
        self._socket.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._socket.transport.is_closing():
            self._socket.transport.resume_reading()

    def abort(self) -> None:
        """End the TCP connection with a reset, without a Close frame."""
        self._socket.transport.abort()

    async def close(self, code: int) -> None:
        """Close with this code; 1005 for a Close without a code, 1006 for none."""
        await end_socket(self._socket, code)

    async def let_go(self) -> None:
        """End the TCP connection in peace, without a Close frame, as the server."""
        self._socket.transport.close()
        with anyio.move_on_after(LINGER_S):
            await self._socket.wait_closed()
        self.abort()
