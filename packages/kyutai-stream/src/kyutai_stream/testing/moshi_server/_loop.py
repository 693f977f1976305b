# SPDX-License-Identifier: MIT
"""The engine in the event loop's time, and who waits for what it does."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
import anyio.lowlevel

from ._engine import Engine
from ._pages import Metrics
from .options import STEP_S, Model, Recogniser

__all__ = ["ModelLoop"]


class ModelLoop:
    """Drives the engine of one server.

    Args:
        model: The configuration.
        listen: Makes the recogniser of each stream.
        speed: Multiples of real time.
        idle_turn_s: Pause between two turns without a step, seconds.
        metrics: Where the length of steps is noted.
    """

    def __init__(
        self,
        model: Model,
        listen: Callable[[], Recogniser],
        *,
        speed: float,
        idle_turn_s: float,
        metrics: Metrics,
    ) -> None:
        self._model = model
        self._listen = listen
        self._speed = speed
        self._idle_turn_s = idle_turn_s
        self._metrics = metrics
        self._wake = anyio.Event()
        self._news = anyio.Event()
        self.engine = self._new_engine()
        """The engine of now; `renew` puts another one in its place."""

    @property
    def speed(self) -> float:
        """How much faster than speech it works; may be set at any time."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._speed = speed
        self.engine.step_s = _step_s(speed)

    def renew(self) -> None:
        """Begin with an empty engine."""
        self.engine = self._new_engine()

    def changed(self) -> None:
        """The engine may have something to do."""
        self._wake.set()
        self.tell()

    def tell(self) -> None:
        """Let those look who wait for a condition."""
        self._news.set()
        self._news = anyio.Event()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until it is true; it is looked at whenever there is news."""
        while not condition():
            await self._news.wait()

    async def run(self, deliver: Callable[[], None]) -> None:
        """Do what is due, for ever.

        Args:
            deliver: Called when messages may be waiting in outboxes.
        """
        while True:
            deadline = self.engine.deadline()
            if deadline is not None and deadline <= anyio.current_time():
                await anyio.lowlevel.checkpoint()
            else:
                with anyio.CancelScope(
                    deadline=math.inf if deadline is None else deadline
                ):
                    await self._wake.wait()
                    self._wake = anyio.Event()
            engine = self.engine
            steps = engine.total_steps
            if engine.tick(anyio.current_time()):
                deliver()
                self.tell()
            if engine.total_steps > steps:
                self._metrics.step_durations.observe(engine.step_s)

    def _new_engine(self) -> Engine:
        return Engine(
            self._model,
            self._listen,
            step_s=_step_s(self._speed),
            idle_turn_s=self._idle_turn_s,
        )


def _step_s(speed: float) -> float:
    if speed <= 0:
        raise ValueError("the speed must be positive; `stall` stops the model loop")
    return STEP_S / speed
