# SPDX-License-Identifier: MIT
"""What the doctor finds out on an open connection, by sending silence."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import numpy as np
from attrs import define, field

from ..backend import (
    Capabilities,
    Connection,
    ConnectionEvent,
    Flushed,
    Progress,
    Ready,
)
from ..core import FRAME_S, FRAME_SAMPLES
from ..errors import ConnectionLost
from ._checks import Note

__all__ = ["WORK_S", "Trial"]

SILENCE_S = 2.0
FLUSH_S = 10.0
WORK_S = 60.0
"""Longest time for everything after it is ready."""
LATE_S = 10.0
"""A server that needs longer to be ready gets a remark: it was asleep."""


@define
class _Heard:
    ready: Ready | None = None
    frames: int = 0
    flushed: bool = False
    changed: anyio.Event = field(factory=anyio.Event)

    @property
    def capabilities(self) -> Capabilities:
        return self.ready.capabilities if self.ready is not None else Capabilities()

    def take(self, event: ConnectionEvent) -> None:
        match event:
            case Ready():
                self.ready = event
            case Progress():
                self.frames = event.frames_processed
            case Flushed():
                self.flushed = True
        self.changed.set()
        self.changed = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.changed.wait()


@define
class Trial:
    """Tries one connection."""

    _connection: Connection
    _note: Note
    stage: str = field(default="ready", init=False)
    """What is being looked at; a failure is about this."""
    _heard: _Heard = field(factory=_Heard, init=False)

    async def run(self, began: float, opening: anyio.CancelScope) -> None:
        """Listen, send silence, ask for the last words.

        Args:
            began: When connecting began, seconds of the loop's clock.
            opening: Time-out of the connection; gets `WORK_S` once it is ready.

        Raises:
            KyutaiStreamError: If the connection fails meanwhile.
        """
        connection, heard = self._connection, self._heard
        failures: list[Exception] = []

        async def listen() -> None:
            try:
                async for event in connection:
                    heard.take(event)
                failures.append(ConnectionLost("the server ended the connection"))
            except Exception as exc:
                failures.append(exc)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await heard.until(lambda: heard.ready is not None)
            opening.deadline = anyio.current_time() + WORK_S
            self._ready(anyio.current_time() - began)
            self.stage = "keeps up"
            await self._silence()
            self.stage = "last words"
            await self._flush()
            tasks.cancel_scope.cancel()
        if failures:
            raise failures[0]

    def _ready(self, after_s: float) -> None:
        if after_s > LATE_S:
            fix = "it was asleep: keep it warm, or live with the wait"
            self._note("ready", "remark", f"after {after_s:.1f} s (cold start)", fix)
        else:
            self._note("ready", "ok", f"after {after_s:.2f} s")

    async def _silence(self) -> None:
        """Send silence as fast as it would be spoken and see whether it keeps up."""
        connection, heard = self._connection, self._heard
        capabilities = heard.capabilities
        frames = round((SILENCE_S + capabilities.silence_prefix_s) / FRAME_S)
        began = anyio.current_time()
        longest = 0
        for n in range(frames):
            await anyio.sleep_until(began + n * FRAME_S)
            await connection.send(np.zeros(FRAME_SAMPLES, dtype=np.float32))
            longest = max(longest, n + 1 - heard.frames)
        took_s = anyio.current_time() - began
        if not capabilities.acks:
            self._note("keeps up", "skipped", "it does not tell how far it is")
            return
        with anyio.move_on_after(FLUSH_S):
            await heard.until(lambda: heard.frames >= frames)
        lag_s = longest * FRAME_S
        rate = heard.frames / max(anyio.current_time() - began, took_s, FRAME_S)
        found = (
            f"{heard.frames} of {frames} frames done, {rate:.1f} a second (12.5 are"
            f" needed), at most {lag_s:.2f} s behind"
        )
        if heard.frames < frames:
            self._note(
                "keeps up", "failed", found, "its model stands still: restart it"
            )
        elif lag_s > 1.0:
            fix = "it is busy: fewer streams, or a stronger machine"
            self._note("keeps up", "remark", found, fix)
        else:
            self._note("keeps up", "ok", found)

    async def _flush(self) -> None:
        connection, heard = self._connection, self._heard
        capabilities = heard.capabilities
        began = anyio.current_time()
        if not capabilities.self_flushing:
            for _ in range(round(capabilities.nominal_delay_s / FRAME_S) + 3):
                await connection.send(np.zeros(FRAME_SAMPLES, dtype=np.float32))
        await connection.request_flush(1)
        with anyio.move_on_after(FLUSH_S):
            await heard.until(lambda: heard.flushed)
        if heard.flushed:
            took_s = anyio.current_time() - began
            self._note("last words", "ok", f"confirmed after {took_s:.2f} s")
        else:
            found = f"no confirmation within {FLUSH_S:g} s"
            self._note("last words", "failed", found, "its model may stand still")
