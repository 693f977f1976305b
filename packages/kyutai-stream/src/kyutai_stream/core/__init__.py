# SPDX-License-Identifier: MIT
"""The pure heart of a session: no clock, no I/O, numbers in and numbers out.

Framing, the ring of unsettled audio, the timeline map, the ledger of sent and
processed frames, the send window, the join after a reconnect, the retry decision,
the watch on deaf recognisers and wrong languages, delays, speech detection, and
local agreement for recognisers that revise themselves.
"""

from __future__ import annotations

from .agreement import HeardWord, LocalAgreement
from .flow import SendWindow
from .framing import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE, Framer
from .join import DeliveredWord, Join
from .language import LanguageGuard
from .latency import ArrivalClock, Delays, DelaySummary
from .ledger import Ledger
from .retry import RetryPolicy, RetryState
from .ring import AudioRing, Piece
from .speech import SpeechChange, SpeechDetector
from .timeline import Span, SpanKind, TimelineMap
from .watch import DeafRules, DeafWatch

__all__ = [
    "FRAME_S",
    "FRAME_SAMPLES",
    "SAMPLE_RATE",
    "ArrivalClock",
    "AudioRing",
    "DeafRules",
    "DeafWatch",
    "DelaySummary",
    "Delays",
    "DeliveredWord",
    "Framer",
    "HeardWord",
    "Join",
    "LanguageGuard",
    "Ledger",
    "LocalAgreement",
    "Piece",
    "RetryPolicy",
    "RetryState",
    "SendWindow",
    "Span",
    "SpanKind",
    "SpeechChange",
    "SpeechDetector",
    "TimelineMap",
]
