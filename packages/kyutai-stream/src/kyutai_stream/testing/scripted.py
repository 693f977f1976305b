# SPDX-License-Identifier: MIT
"""A backend that says what it was told to, when the audio has got that far.

It does not listen: elapsed audio decides alone. That suits tests of sessions and
demos that say so; it proves nothing about audio.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import Factory, field, frozen

from ..backend import (
    Capabilities,
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Frame,
    Pause,
    Progress,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from ..core import FRAME_S
from ..errors import ConnectionLost

__all__ = ["ConnectionScript", "ScriptedBackend", "ScriptedConnection", "ScriptedWord"]

EVENT_BUFFER = 256


@frozen(kw_only=True)
class ScriptedWord:
    """A word and when it is spoken, seconds of audio of its connection."""

    text: str = field(repr=False)
    """The word."""
    start: float
    """Seconds of audio."""
    end: float
    """Seconds of audio."""


@frozen(kw_only=True)
class ConnectionScript:
    """What one connection does."""

    words: tuple[ScriptedWord, ...] = ()
    """Said when the audio has passed their end by the nominal delay."""
    pauses: dict[int, tuple[float, ...]] = Factory(dict)
    """Pause probabilities to send after the frame of that number (from 1)."""
    refuse: Exception | None = None
    """Raised instead of connecting."""
    never_ready: bool = False
    """Whether it accepts the connection and then says nothing."""
    lose_after: int | None = None
    """Frames after which the connection breaks: `send` and iteration fail."""
    stop_reading_after: int | None = None
    """Frames after which `send` waits for ever."""
    confirm_flush: bool = True
    """Whether a flush is confirmed."""


class ScriptedBackend:
    """Plays one script for each connection; the last one repeats.

    Args:
        scripts: One for each connection, in order.
        capabilities: What it claims, and keeps to.
    """

    name = "scripted"
    description = "SCRIPTED transcript for tests and demos, does not listen"

    def __init__(
        self,
        *scripts: ConnectionScript,
        capabilities: Capabilities | None = None,
    ) -> None:
        self._scripts = scripts or (ConnectionScript(),)
        self.capabilities = capabilities or Capabilities(
            acks=True, resettable=True, nominal_delay_s=0.48
        )
        self.requests: list[ConnectRequest] = []
        """What was asked for, one entry for each attempt."""
        self.connections: list[ScriptedConnection] = []
        """The connections that came about."""
        self.open = 0
        """Connections open now."""

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        """Open the next connection of the script."""
        script = self._scripts[min(len(self.requests), len(self._scripts) - 1)]
        self.requests.append(request)
        if script.refuse is not None:
            raise script.refuse
        send, receive = anyio.create_memory_object_stream[ConnectionEvent](EVENT_BUFFER)
        async with send, receive:
            if not script.never_ready:
                send.send_nowait(Ready(capabilities=self.capabilities))
            connection = ScriptedConnection(script, self.capabilities, send, receive)
            self.connections.append(connection)
            self.open += 1
            try:
                yield connection
            finally:
                self.open -= 1


class ScriptedConnection:
    """One connection; keeps every frame it was sent."""

    def __init__(
        self,
        script: ConnectionScript,
        capabilities: Capabilities,
        send: MemoryObjectSendStream[ConnectionEvent],
        receive: MemoryObjectReceiveStream[ConnectionEvent],
    ) -> None:
        self._script = script
        self._capabilities = capabilities
        self._send = send
        self._receive = receive
        self._said = 0
        self._epoch_frames = 0
        self.frames: list[Frame] = []
        """All frames, in order."""
        self.keepalives = 0
        """Calls of `keepalive`."""
        self.flushes: list[int] = []
        """Tokens of the flushes asked for."""

    async def send(self, frame: Frame) -> None:
        """Take one frame; says the words that are due."""
        script = self._script
        if script.lose_after is not None and len(self.frames) >= script.lose_after:
            await self._send.aclose()
            raise ConnectionLost("lost, as scripted")
        if len(self.frames) == script.stop_reading_after:
            await anyio.sleep(math.inf)
        self.frames.append(frame)
        self._epoch_frames += 1
        await self._say(self._due())
        pause = script.pauses.get(len(self.frames))
        if pause is not None:
            horizons = self._capabilities.pause_horizons_s
            await self._send.send(Pause(probabilities=pause, horizons_s=horizons))
        if self._capabilities.acks:
            progress = Progress(frames_processed=self._epoch_frames, lag_frames=0)
            await self._send.send(progress)

    async def request_flush(self, token: int) -> None:
        """Confirm at once: every frame was processed when it came."""
        self.flushes.append(token)
        if self._script.confirm_flush:
            await self._send.send(Flushed(token=token))

    async def reset(self) -> None:
        """Begin the script anew."""
        self._said = 0
        self._epoch_frames = 0
        await self._send.send(WasReset())

    async def keepalive(self) -> None:
        """Count the call."""
        self.keepalives += 1

    def _due(self) -> Sequence[ScriptedWord]:
        heard = self._epoch_frames * FRAME_S - self._capabilities.nominal_delay_s
        words = self._script.words[self._said :]
        # Decimal seconds: half a sample of slack.
        return [word for word in words if word.end <= heard + 2e-5]

    async def _say(self, words: Sequence[ScriptedWord]) -> None:
        for word in words:
            index = self._said
            self._said += 1
            await self._send.send(Word(index=index, text=word.text, start=word.start))
            await self._send.send(WordEnd(index=index, end=word.end))

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self._receive
