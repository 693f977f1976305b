# SPDX-License-Identifier: MIT
"""One speaker's place in the batch, seen from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import anyio
import anyio.lowlevel

from ...backend import ConnectionEvent, Frame, Ready
from ...core import FRAME_SAMPLES
from ...errors import AudioFormatError
from ._engine import Engine
from ._slot import Flush, Recogniser, Reset

__all__ = ["LocalConnection"]

CLOSE_TIMEOUT_S = 5.0
"""The last one to leave waits for the thread to finish its step, no longer."""

LAST_JOIN_S = 1.0


class LocalConnection:
    """Fulfils `kyutai_stream.backend.Connection` on a place of the engine.

    Args:
        engine: Runs the model.
        welcome: Makes the first event once the model is known.

    Raises:
        CapacityError: If all places are taken.
    """

    def __init__(self, engine: Engine, welcome: Callable[[Recogniser], Ready]) -> None:
        # The thread may only ask the loop to call something: anyio has no way for
        # that without waiting for the loop.
        self._loop = asyncio.get_running_loop()
        self._changed = anyio.Event()
        self._engine = engine
        self._first: ConnectionEvent | None = None
        self._slot = engine.claim(self._wake, welcome)

    async def prepare(self) -> None:
        """Wait until the model has this place ready.

        Raises:
            KyutaiStreamError: If the model cannot be loaded or has failed.
        """
        self._first = await self._next()

    async def send(self, frame: Frame) -> None:
        """Queue one frame; waits while the model is behind.

        Raises:
            AudioFormatError: If it is no frame.
            ConnectionLost: If the model has failed.
        """
        if frame.shape != (FRAME_SAMPLES,):
            raise AudioFormatError(
                f"a frame has shape ({FRAME_SAMPLES},), not {frame.shape}"
            )
        await self._offer(frame)

    async def request_flush(self, token: int) -> None:
        """Ask for confirmation after the frames so far."""
        await self._offer(Flush(token=token))

    async def reset(self) -> None:
        """Ask for a fresh start after the frames so far."""
        await self._offer(Reset())

    async def keepalive(self) -> None:
        """Nothing to keep alive."""

    async def close(self) -> None:
        """Give the place back; never raises, bounded, also when cancelled."""
        self._engine.release(self._slot)
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            while self._engine.is_leaving(self._slot):
                await self._changed.wait()
            if self._slot.ended is not None:
                # It is returning: microseconds.
                self._slot.ended.join(LAST_JOIN_S)

    async def _offer(self, item: Frame | Flush | Reset) -> None:
        # Also when there is room: a fast sender must let others have their turn.
        await anyio.lowlevel.checkpoint()
        while not self._engine.offer(self._slot, item):
            await self._changed.wait()

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self

    async def __anext__(self) -> ConnectionEvent:
        """Wait for the next event; cancelling loses none."""
        first, self._first = self._first, None
        return first or await self._next()

    async def _next(self) -> ConnectionEvent:
        await anyio.lowlevel.checkpoint()
        while (event := self._engine.take(self._slot)) is None:
            await self._changed.wait()
        return event

    def _wake(self) -> None:
        """Called by the thread."""
        try:
            self._loop.call_soon_threadsafe(self._notify)
        except RuntimeError:
            # The loop was closed without leaving the connection: nobody waits.
            pass

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
