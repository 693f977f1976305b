# SPDX-License-Identifier: MIT
"""One websocket to a gateway: find out what it speaks, then send and read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import numpy as np

from ...backend import Capabilities, ConnectionEvent, Frame, Ready
from ...core import FRAME_SAMPLES
from ...wire import gateway
from .._websocket import Ended, EventReader, Socket
from ._dialects import Dialect, capabilities
from ._stream import GatewayStream

__all__ = ["GatewayConnection"]

SILENCE_AFTER_S = 100.0
"""Behind an older gateway the model's server drops a stream after 120 s without
audio; empty messages are not passed on to it."""

SILENCE: Frame = np.zeros(FRAME_SAMPLES, dtype=np.float32)


class GatewayConnection:
    """Fulfils `kyutai_stream.backend.Connection` once `wait_ready` was called."""

    def __init__(
        self, socket: Socket, url: str, *, dialect: Dialect, known: Capabilities
    ) -> None:
        now = anyio.current_time()
        self.url = url
        """Its address."""
        self._socket = socket
        self._dialect = dialect
        self._known = known
        self._stream = GatewayStream(delay_s=known.nominal_delay_s, now=now)
        self._encode = gateway.encode_frame
        if dialect == "gen1":
            self._encode = gateway.encode_pcm16
        self._last_audio = now

    @property
    def says_ready(self) -> bool:
        """Whether it speaks protocol 1."""
        return self._stream.ready is not None

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until it says `ready`, or speaks as only older gateways do.

        Args:
            timeout_s: Seconds to wait; 0 for servers that say nothing first.

        Raises:
            CapacityError: If it is full.
            ConnectFailed: If it reports another failure.
            ProtocolError: If it is no gateway.
        """
        stream = self._stream
        with anyio.move_on_after(timeout_s):
            while timeout_s and not (stream.ready or stream.is_older):
                try:
                    message = await self._socket.receive()
                except Ended as end:
                    raise stream.ended(end, anyio.current_time()) from end
                stream.receive(message, anyio.current_time())

    def begin(self) -> Capabilities:
        """Begin the work with what it turned out to speak.

        Returns:
            What this connection can do.
        """
        self._stream.established = True
        able = capabilities(self._dialect, self._known, self._stream.ready)
        ready = Ready(capabilities=able)
        self._reader = EventReader(self._socket, self._stream, ready)
        return able

    async def send(self, frame: Frame) -> None:
        """Send one frame; waits while the network does not take it."""
        self._last_audio = anyio.current_time()
        # Counted first: its answer may be read before this task runs again.
        self._stream.sent(self._last_audio)
        await self._socket.send(self._encode(frame))

    async def request_flush(self, token: int) -> None:
        """Ask for the last words, or wait for them where nothing can be asked."""
        message = self._stream.flush(token, anyio.current_time())
        self._reader.wake()
        if message is not None:
            await self._socket.send(message)

    async def reset(self) -> None:
        """Ask for a fresh start.

        Raises:
            ConfigError: If the gateway speaks an older dialect.
        """
        message = self._stream.reset(anyio.current_time())
        self._reader.wake()
        await self._socket.send(message)

    async def keepalive(self) -> None:
        """Send an empty message; to older gateways silence, where that is needed.

        That silence is not counted: their words have no times that it could move.
        """
        if self._dialect == "gen1":
            return
        now = anyio.current_time()
        older = not self.says_ready
        quiet_s = now - self._last_audio
        if older and (self._dialect == "gen2" or quiet_s >= SILENCE_AFTER_S):
            self._last_audio = now
            await self._socket.send(self._encode(SILENCE))
        else:
            await self._socket.send(gateway.KEEPALIVE)

    async def close(self) -> None:
        """Leave, within 2 s in any case."""
        await self._socket.close()

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self._reader
