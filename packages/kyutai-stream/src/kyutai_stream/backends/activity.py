# SPDX-License-Identifier: MIT
"""`activity`: finds out who speaks, recognises nothing, and says so.

The honest default where no recogniser is configured: readers see that captions
work and why they hold no words.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..backend import (
    Capabilities,
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Frame,
    Progress,
    Ready,
    Voice,
    WasReset,
    Word,
    WordEnd,
)
from ..core import SpeechChange, SpeechDetector

__all__ = ["DEFAULT_CAPTION", "ActivityBackend"]

DEFAULT_CAPTION = "[speaking: no speech recogniser configured]"
"""Shown once for each turn of a speaker."""

EVENT_BUFFER = 64
"""Events between the sending and the reading task; sending waits when full."""


class ActivityBackend:
    """Speech detector with one bracketed notice for each turn.

    Args:
        caption: The notice.
        hangover_s: Seconds of quiet that end a turn.
    """

    name = "activity"
    description = "speech detector, recognises nothing; one notice for each turn"
    capabilities = Capabilities(
        transcribes=False, endpointing=True, acks=True, resettable=True
    )

    def __init__(
        self, *, caption: str = DEFAULT_CAPTION, hangover_s: float = 0.6
    ) -> None:
        self._caption = caption
        self._hangover_s = hangover_s

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        """Open a connection; runs in this process, nothing can be refused."""
        send, receive = anyio.create_memory_object_stream[ConnectionEvent](EVENT_BUFFER)
        async with send, receive:
            send.send_nowait(Ready(capabilities=self.capabilities))
            yield _ActivityConnection(self._caption, self._hangover_s, send, receive)


class _ActivityConnection:
    def __init__(
        self,
        caption: str,
        hangover_s: float,
        send: MemoryObjectSendStream[ConnectionEvent],
        receive: MemoryObjectReceiveStream[ConnectionEvent],
    ) -> None:
        self._caption = caption
        self._hangover_s = hangover_s
        self._send = send
        self._receive = receive
        self._begin()

    def _begin(self) -> None:
        self._detector = SpeechDetector(hangover_s=self._hangover_s)
        self._frames = 0
        self._turns = 0

    async def send(self, frame: Frame) -> None:
        for change in self._detector.push(frame):
            await self._report(change)
        self._frames += 1
        await self._send.send(Progress(frames_processed=self._frames, lag_frames=0))

    async def request_flush(self, token: int) -> None:
        for change in self._detector.finish():
            await self._report(change)
        await self._send.send(Flushed(token=token))

    async def reset(self) -> None:
        for change in self._detector.finish():
            await self._report(change)
        self._begin()
        await self._send.send(WasReset())

    async def keepalive(self) -> None:
        """Nothing to keep alive."""

    async def _report(self, change: SpeechChange) -> None:
        if change.active:
            await self._send.send(Voice(active=True, at=change.at))
            notice = Word(index=self._turns, text=self._caption, start=change.at)
            await self._send.send(notice)
            return
        await self._send.send(WordEnd(index=self._turns, end=change.at))
        await self._send.send(Voice(active=False, at=change.at))
        self._turns += 1

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self._receive
