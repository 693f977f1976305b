# SPDX-License-Identifier: MIT
"""What a dialect needs to know, and what it asks its shell to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import Factory, frozen

from ..moshi_server import STT_1B, Model, Recogniser
from .incidents import Abort, Attempt, CloseWith, HalfOpen
from .model import Frame

__all__ = [
    "DialectOptions",
    "JsonObject",
    "Output",
    "Send",
    "Timers",
    "floats",
    "say",
]

JsonObject = dict[str, Any]


@frozen(kw_only=True)
class Timers:
    """Seconds; None turns a timer off. Defaults belong to the dialect."""

    ping_s: float | None = None
    """Between two `ping` messages."""
    idle_s: float | None = None
    """Without a binary message until the gateway closes."""
    life_s: float | None = None
    """Life of a connection."""
    drain_s: float = 60.0
    """Notice before the end of the life, where the dialect can give one."""

    def scaled(self, factor: float) -> Timers:
        """The same timers, multiplied."""

        def times(seconds: float | None) -> float | None:
            return None if seconds is None else seconds * factor

        return Timers(
            ping_s=times(self.ping_s),
            idle_s=times(self.idle_s),
            life_s=times(self.life_s),
            drain_s=self.drain_s * factor,
        )


@frozen(kw_only=True)
class DialectOptions:
    """What a dialect needs to know."""

    listen: Callable[[], Recogniser]
    """Makes a recogniser for a stream."""
    model: Model = STT_1B
    """What listens with it."""
    number: int = 0
    """Number of the connection."""
    attempt: Attempt = Factory(Attempt)
    """What goes wrong."""
    step_s: float = 0.0
    """Seconds per model step; 0 for as fast as possible."""
    timers: Timers
    """Already scaled."""
    refuse: str | None = None
    """Error code to refuse the connection with, as its dialect does that."""
    scale: float = 1.0
    """Factor of all other waits (`Attempt`, `Drain`)."""
    leading_space: bool = False
    """Whether gen 3 words come with a leading space (self-hosted variant)."""

    @property
    def flush_frames(self) -> int:
        """Silence behind the last voiced frame that brings out its words."""
        return self.model.delay_steps + 3


@frozen(kw_only=True)
class Send:
    """A message to the client."""

    message: str | bytes


Output = Send | CloseWith | Abort | HalfOpen
"""What the shell has to do."""


def say(message: JsonObject) -> Output:
    """A JSON text message."""
    return Send(message=json.dumps(message, ensure_ascii=False))


def floats(data: bytes) -> Frame:
    """Read float32 little-endian samples; the length must fit."""
    return np.frombuffer(data, dtype="<f4").astype(np.float32)
