# SPDX-License-Identifier: MIT
"""A moshi-server for tests: real sockets, real wire, every quirk, no model.

`FakeMoshiServer` speaks the protocol of `moshi-server` 0.6.4 (`BatchedAsr`, with
and without extra heads, and `PyBatchedAsr`) and hears the words of
`kyutai_stream.testing.tones`. Faults are planned for a connection by
`ConnectionPlan` or done at any moment by the methods of the server and its
`connections`. It needs `websockets` and `msgpack` (extra `testing`).
"""

from __future__ import annotations

from .connection import FakeConnection, SentWord
from .options import (
    STT_1B,
    STT_2_6B,
    STT_PYTHON,
    ConnectionPlan,
    Model,
    PauseModel,
    Recogniser,
    Redecoding,
    ScriptedRecogniser,
    Timers,
    plausible_pauses,
    word_pieces,
)
from .server import FakeMoshiServer

__all__ = [
    "STT_1B",
    "STT_2_6B",
    "STT_PYTHON",
    "ConnectionPlan",
    "FakeConnection",
    "FakeMoshiServer",
    "Model",
    "PauseModel",
    "Recogniser",
    "Redecoding",
    "ScriptedRecogniser",
    "SentWord",
    "Timers",
    "plausible_pauses",
    "word_pieces",
]
