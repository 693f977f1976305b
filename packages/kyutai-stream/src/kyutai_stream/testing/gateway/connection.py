# SPDX-License-Identifier: MIT
"""One connection to the fake gateway: its counts, and how to break it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import anyio
import numpy as np
from attrs import define, field
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from .._endings import end_socket
from .dialect import Dialect
from .incidents import Abort, CloseWith, HalfOpen, Incident
from .machine import StreamMachine
from .model import Frame
from .options import Output, Send

__all__ = ["GatewayConnection"]

SEND_TIMEOUT_S = 30.0


@define(eq=False)
class GatewayConnection:
    """What one client sent and was told; kept after it is gone.

    Neither headers nor speech are in its `repr`.
    """

    _machine: StreamMachine = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    """Request headers, secrets included, names in lower case."""
    path: str = field(repr=False)
    """Request path with its query."""
    _socket: ServerConnection = field(repr=False)
    _keep_audio: bool = field(repr=False)
    messages: int = field(default=0, init=False)
    """Binary messages with content."""
    bytes_received: int = field(default=0, init=False)
    """Bytes in them."""
    keepalives: int = field(default=0, init=False)
    """Empty binary messages."""
    controls: list[str] = field(factory=list, init=False)
    """Text messages received, in order."""
    sent: Counter[str] = field(factory=Counter, init=False)
    """Messages sent, by `type` (`-` where it has none)."""
    closed: tuple[int, str] | None = field(default=None, init=False)
    """Close code and reason as sent by this side, (1006, "") for an abrupt end;
    None while open or if the client closed."""
    client_closed: int | None = field(default=None, init=False)
    """Close code of the client; 1006 if it just went away."""
    _audio: list[bytes] = field(factory=list, repr=False, init=False)
    _incidents: list[Incident] = field(factory=list, repr=False, init=False)
    _waiting: anyio.CancelScope | None = field(default=None, repr=False, init=False)
    _ended: anyio.Event = field(factory=anyio.Event, repr=False, init=False)

    @property
    def dialect(self) -> Dialect:
        """What it speaks."""
        return self._machine.dialect

    @property
    def frames(self) -> int:
        """Whole frames of 1920 samples received."""
        return self._machine.pump.frames

    @property
    def samples(self) -> int:
        """Samples received."""
        return self._machine.pump.samples

    @property
    def open(self) -> bool:
        """Whether this side still serves it."""
        return not self._ended.is_set()

    @property
    def audio(self) -> Frame:
        """All audio, float32, shape `(n,)`; only with `keep_audio`, not in gen 1."""
        data = b"".join(self._audio)
        return np.frombuffer(data[: len(data) - len(data) % 4], dtype="<f4")

    def happen(self, incident: Incident) -> None:
        """Let something go wrong (or `Drain`) at once."""
        if isinstance(incident, Abort):
            # Not by way of the loop, which may wait for a client to read.
            self.abort()
            return
        self._incidents.append(incident)
        if self._waiting is not None:
            self._waiting.cancel()

    def abort(self) -> None:
        """End it without a close frame, even if the client reads nothing."""
        if self._ended.is_set():
            return
        self._leave(1006, "")
        self._socket.transport.abort()

    async def wait_ended(self) -> None:
        """Wait until it is over."""
        await self._ended.wait()

    async def serve(self) -> None:
        """Run the connection until one side ends it."""
        try:
            with suppress(ConnectionClosed):
                await self._serve()
        except TimeoutError:
            # The client does not read.
            self.abort()
        finally:
            self._ended.set()
            if self.closed is None:
                self.client_closed = self._socket.close_code or 1006

    async def _serve(self) -> None:
        outputs = self._machine.tick(anyio.current_time())
        while await self._perform(outputs):
            message = await self._receive()
            now = anyio.current_time()
            outputs = []
            while self._incidents:
                outputs += self._machine.happen(self._incidents.pop(0), now)
            if message is None:
                outputs += self._machine.tick(now)
            else:
                self._count(message)
                outputs += self._machine.receive(message, now)

    async def _receive(self) -> bytes | str | None:
        """The next message; None when it is time for something else."""
        if self._incidents:
            return None
        wakeup = self._machine.wakeup()
        message: bytes | str | None = None
        with anyio.CancelScope() as self._waiting:
            if wakeup is not None:
                self._waiting.deadline = wakeup
            if self._machine.pump.full:
                # Back-pressure: the client's writes come to a halt.
                await anyio.sleep_forever()
            message = await self._socket.recv()
        self._waiting = None
        return message

    def _count(self, message: bytes | str) -> None:
        if isinstance(message, str):
            self.controls.append(message)
        elif not message:
            self.keepalives += 1
        else:
            self.messages += 1
            self.bytes_received += len(message)
            if self._keep_audio and message != b"EOS":
                self._audio.append(message)

    async def _perform(self, outputs: list[Output]) -> bool:
        """Do what the dialect wants; False when the connection is over."""
        for output in outputs:
            match output:
                case Send(message=message):
                    self.sent[_type_of(message)] += 1
                    with anyio.fail_after(SEND_TIMEOUT_S):
                        await self._socket.send(message)
                case CloseWith(code=code, reason=reason):
                    self._leave(code, reason)
                    await end_socket(self._socket, code, reason)
                    return False
                case Abort():
                    self.abort()
                    return False
                case HalfOpen():
                    await self._freeze()
                    return False
        return True

    async def _freeze(self) -> None:
        """Neither read nor write nor answer pings, until somebody aborts it."""
        self._socket.transport.pause_reading()
        await self._ended.wait()

    def _leave(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)
        self._ended.set()


def _type_of(message: str | bytes) -> str:
    if isinstance(message, bytes):
        return "binary"
    try:
        kind = json.loads(message)["type"]
    except (ValueError, TypeError, KeyError):
        return "-"
    return str(kind)
