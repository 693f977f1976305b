# SPDX-License-Identifier: MIT
"""A fake of the caption gateway's `/v1/stream`, in all its dialects.

`FakeGateway` is a real websocket server; `Attempt` and the incidents say what goes
wrong. Needs `pip install 'kyutai-stream[testing]'`.
"""

from __future__ import annotations

from .connection import GatewayConnection
from .edge import Edge, Handshake
from .incidents import (
    Abort,
    At,
    Attempt,
    CloseWith,
    Drain,
    Fail,
    Garbage,
    HalfOpen,
    Incident,
    Resume,
    SendRaw,
    StaleEpoch,
    StopSteps,
    StopWords,
    UnknownMessages,
)
from .options import Timers
from .server import DialectName, FakeGateway

__all__ = [
    "Abort",
    "At",
    "Attempt",
    "CloseWith",
    "DialectName",
    "Drain",
    "Edge",
    "Fail",
    "FakeGateway",
    "Garbage",
    "GatewayConnection",
    "HalfOpen",
    "Handshake",
    "Incident",
    "Resume",
    "SendRaw",
    "StaleEpoch",
    "StopSteps",
    "StopWords",
    "Timers",
    "UnknownMessages",
]
