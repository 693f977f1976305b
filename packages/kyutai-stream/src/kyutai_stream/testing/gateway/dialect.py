# SPDX-License-Identifier: MIT
"""What a gateway says on `/v1/stream`, and what it makes of what it is told.

A dialect is asked by its `StreamMachine`, which knows when something is due.
Nothing here waits or reads a clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from .incidents import CloseWith
from .model import FakeModel
from .options import DialectOptions, JsonObject, Output, say
from .pump import Mark, Pump, Stepped

__all__ = ["Dialect"]


class Dialect(ABC):
    """The speech of one connection; subclasses speak.

    Args:
        options: What it needs to know.
        now: Seconds, at the moment the connection was accepted.
    """

    waits_for_ready = False
    """Whether a client may wait for the model without being called idle."""

    def __init__(self, options: DialectOptions, now: float) -> None:
        self.options = options
        self.pump = Pump(self._new_model, step_s=options.step_s)
        self.closed = False
        """Whether it has said its last."""
        self.drain_at: float | None = None
        """When the announced end comes; None while none is announced."""

    @abstractmethod
    def on_binary(self, data: bytes, now: float) -> list[Output]:
        """Take a binary message."""

    @abstractmethod
    def on_text(self, text: str, now: float) -> list[Output]:
        """Take a text message."""

    @abstractmethod
    def on_step(self, stepped: Stepped, now: float) -> list[Output]:
        """Tell what a step brought."""

    @abstractmethod
    def fail(self, code: str) -> list[Output]:
        """Report an error and close, as far as the dialect does."""

    def on_mark(self, mark: Mark, now: float) -> list[Output]:
        """A mark was reached."""
        return []

    def on_ready(self) -> list[Output]:
        """The model is ready."""
        return []

    def ping(self) -> list[Output]:
        """Send a sign of life."""
        return [say({"type": "ping"})]

    def idle(self) -> list[Output]:
        """The client was silent for too long."""
        return self.fail("idle_timeout")

    def drain(self, seconds: float, now: float) -> list[Output]:
        """Announce the end, where the dialect can."""
        self.drain_at = now + seconds
        return []

    def expire(self, now: float) -> list[Output]:
        """The announced end has come."""
        return self.fail("draining")

    def die(self, now: float) -> list[Output]:
        """The life of the connection is over."""
        return [self.close(1000)]

    def unknown(self) -> list[JsonObject]:
        """Messages of a newer gateway."""
        return [{"type": "hologram", "text": "not for you"}, {"type": "ping", "x": [1]}]

    def stale(self) -> list[Output]:
        """Messages of an epoch that is over; only protocol 1 has epochs."""
        return []

    def close(self, code: int, reason: str = "") -> Output:
        """Close and say no more."""
        self.closed = True
        return CloseWith(code=code, reason=reason)

    def _new_model(self, epoch: int) -> FakeModel:
        options = self.options
        return FakeModel(options.model, options.listen, options.number, epoch)
