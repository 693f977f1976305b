# SPDX-License-Identifier: MIT
"""One websocket to moshi-server: wait for its `Ready`, then send and read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio

from ...backend import Capabilities, ConnectionEvent, Frame, Listener, Ready
from ...errors import CapacityError, ConnectFailed, KyutaiStreamError
from ...wire import moshi
from .._websocket import Ended, EventReader, Socket
from ._stream import MoshiStream, Profile

__all__ = ["MoshiConnection", "wait_ready"]

FULL = "no free channels"
"""What a server without a free place says before it closes."""


async def wait_ready(socket: Socket, timeout_s: float) -> None:
    """Wait until the model loop has taken this connection.

    An accepted connection proves nothing: a server whose model loop has died goes
    on accepting.

    Raises:
        CapacityError: If the server is full, or closes without a word.
        ConnectFailed: If `Ready` does not come in time, or another error comes.
        ProtocolError: If the other side is no moshi-server.
    """
    with anyio.move_on_after(timeout_s) as scope:
        try:
            while True:
                message = moshi.decode(await socket.receive())
                if isinstance(message, moshi.Ready):
                    return
                if isinstance(message, moshi.Error):
                    raise _refused(message)
        except Ended as end:
            raise CapacityError(
                f"moshi-server closed before it was ready (code {end.code})"
            ) from end
    if scope.cancelled_caught:
        raise ConnectFailed(
            f"moshi-server accepted the connection but its model was not ready "
            f"within {timeout_s:g} s"
        )


def _refused(error: moshi.Error) -> KyutaiStreamError:
    if FULL in error.message:
        return CapacityError("moshi-server has no free channels")
    return ConnectFailed(f"moshi-server refused: {error.message[:120]!r}")


class MoshiConnection:
    """Fulfils `kyutai_stream.backend.PromptConnection`; the server is ready."""

    def __init__(
        self, socket: Socket, profile: Profile, capabilities: Capabilities
    ) -> None:
        self._socket = socket
        self._stream = MoshiStream(profile)
        ready = Ready(capabilities=capabilities)
        self._reader = EventReader(socket, self._stream, ready)
        self._encoder = moshi.FrameEncoder()
        self._clock = asyncio.get_running_loop().time

    async def send(self, frame: Frame) -> None:
        """Send one frame; waits while the network does not take it."""
        message = self._encoder.encode(frame)
        # Counted first: its step may be read before this task runs again.
        self._stream.sent(anyio.current_time())
        await self._socket.send(message)

    @property
    def writable(self) -> bool:
        """Whether `send_now` may be called."""
        return self._socket.writable

    def send_now(self, frame: Frame) -> None:
        """Send one frame without waiting; only while `writable`."""
        message = self._encoder.encode(frame)
        self._stream.sent(self._clock())
        self._socket.send_now(message)

    def hand_on(self, listener: Listener) -> None:
        """Call a listener with events, while a task waits in the iteration."""
        self._reader.hand_on(listener)

    async def request_flush(self, token: int) -> None:
        """Confirm when the steps have covered what was sent."""
        message = self._stream.flush(token, anyio.current_time())
        self._reader.wake()
        if message is not None:
            await self._socket.send(message)

    async def reset(self) -> None:
        """Send `Init`, which waits in line behind the audio."""
        message = self._stream.reset(anyio.current_time())
        self._reader.wake()
        await self._socket.send(message)

    async def keepalive(self) -> None:
        """Send audio without samples: a message, but no model step."""
        await self._socket.send(moshi.EMPTY_AUDIO)

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self._reader
