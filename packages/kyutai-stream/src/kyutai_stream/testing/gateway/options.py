# SPDX-License-Identifier: MIT
"""What a dialect needs to know, and what it asks its shell to do."""

from __future__ import annotations

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


@frozen(kw_only=True)
class Send:
    """A message to the client."""

    message: str | bytes


Output = Send | CloseWith | Abort | HalfOpen
"""What the shell has to do."""


def floats(data: bytes) -> Frame:
    """Read float32 little-endian samples; the length must fit."""
    return np.frombuffer(data, dtype="<f4").astype(np.float32)
