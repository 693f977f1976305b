"""What tests do with a connection: open it, speak, listen beside it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import numpy as np
import numpy.typing as npt

from kyutai_stream.backend import (
    Backend,
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Ready,
    Word,
)
from kyutai_stream.core import Framer
from kyutai_stream.errors import KyutaiStreamError
from kyutai_stream.testing import speak

TEXT = "alpha bravo charlie delta echo foxtrot golf"
SPEECH = speak(TEXT)
ZEROS = np.zeros(1920, dtype=np.float32)


def frames(samples: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    framer = Framer()
    whole = framer.push(samples)
    return whole + framer.push(np.zeros(framer.padding, dtype=np.float32))


class Talk:
    """Sends and reads at the same time, as the session does."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.events: list[ConnectionEvent] = []
        self.failure: KyutaiStreamError | None = None
        self._news = anyio.Event()

    async def read(self) -> None:
        try:
            async for event in self.connection:
                self.events.append(event)
                self._notify()
        except KyutaiStreamError as exc:
            self.failure = exc
        self._notify()

    async def send_speech(self, token: int, *, pause_s: float = 0.0) -> int:
        """Send all of it, and ask for its words; returns the number of frames."""
        await self.until(lambda: bool(self.events))
        ready = self.events[0]
        assert isinstance(ready, Ready)
        silence = math.ceil(ready.capabilities.nominal_delay_s / 0.08) + 3
        if ready.capabilities.self_flushing:
            silence = 0
        sent = frames(SPEECH.samples) + [ZEROS] * silence
        for frame in sent:
            await self.connection.send(frame)
            await anyio.sleep(pause_s)
        await self.connection.request_flush(token)
        return len(sent)

    async def say(self, token: int) -> None:
        """Send the speech and wait for all of its words."""
        await self.send_speech(token, pause_s=0.02)
        await self.flushed(token)

    async def flushed(self, token: int) -> None:
        await self.until(lambda: Flushed(token=token) in self.events)

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(120):
            while not condition():
                await self._news.wait()

    async def lost(self) -> KyutaiStreamError:
        await self.until(lambda: self.failure is not None)
        assert self.failure is not None
        return self.failure

    def words(self) -> list[Word]:
        return [event for event in self.events if isinstance(event, Word)]

    def _notify(self) -> None:
        self._news.set()
        self._news = anyio.Event()


@asynccontextmanager
async def talking(backend: Backend) -> AsyncIterator[Talk]:
    """Open a connection and listen to it."""
    async with (
        backend.connect(ConnectRequest(language="en")) as connection,
        anyio.create_task_group() as tasks,
    ):
        talk = Talk(connection)
        tasks.start_soon(talk.read)
        yield talk
        tasks.cancel_scope.cancel()


async def talked(backend: Backend, then: Callable[[Talk], Awaitable[None]]) -> Talk:
    """Open a connection, do something on it, leave."""
    async with talking(backend) as talk:
        await then(talk)
    return talk


async def attempt(backend: Backend) -> None:
    """Try to connect where that must fail."""
    async with backend.connect(ConnectRequest()):
        raise AssertionError("it connected")


async def collect(connection: Connection, count: int) -> list[ConnectionEvent]:
    """Read so many events."""
    events = []
    async for event in connection:
        events.append(event)
        if len(events) == count:
            break
    return events
