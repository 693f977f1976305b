# SPDX-License-Identifier: MIT
"""The pure heart of a session: no clock, no I/O, numbers in and numbers out.

Framing, the timeline map, the ledger of sent and processed frames (and, to come,
the ring and replay plan built on it), the retry decision, speech detection, and
local agreement for recognisers that revise themselves.
"""

from __future__ import annotations

from .agreement import HeardWord, LocalAgreement
from .framing import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE, Framer
from .ledger import Ledger
from .retry import RetryPolicy
from .speech import SpeechChange, SpeechDetector
from .timeline import Span, SpanKind, TimelineMap

__all__ = [
    "FRAME_S",
    "FRAME_SAMPLES",
    "SAMPLE_RATE",
    "Framer",
    "HeardWord",
    "Ledger",
    "LocalAgreement",
    "RetryPolicy",
    "Span",
    "SpanKind",
    "SpeechChange",
    "SpeechDetector",
    "TimelineMap",
]
