# SPDX-License-Identifier: MIT
"""Streaming client for Kyutai speech-to-text, with pluggable backends.

Push audio of one speaker into a session and iterate over partial and final
captions; see `open_session`.
"""

from __future__ import annotations

from .audio import AudioFormat, Resampler
from .backend import Backend, Capabilities, Connection, ConnectRequest, Warmable
from .core import DeafRules, DelaySummary, RetryPolicy
from .errors import (
    AudioFormatError,
    AuthError,
    BackendUnavailable,
    CapacityError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
    ProtocolError,
)
from .events import (
    Endpoint,
    Final,
    FinalReason,
    Gap,
    LanguageMismatch,
    Partial,
    SessionEvent,
    SessionState,
    SpeechStarted,
    StateChanged,
    TimedWord,
    Usage,
)
from .registry import BackendInfo, available_backends, get_backend
from .session import Session, SessionMetrics, SessionOptions, open_session
from .transcript import SegmentRules

__all__ = [
    "AudioFormat",
    "AudioFormatError",
    "AuthError",
    "Backend",
    "BackendInfo",
    "BackendUnavailable",
    "Capabilities",
    "CapacityError",
    "ConfigError",
    "ConnectFailed",
    "ConnectRequest",
    "Connection",
    "ConnectionLost",
    "DeafRules",
    "DelaySummary",
    "Endpoint",
    "Final",
    "FinalReason",
    "Gap",
    "KyutaiStreamError",
    "LanguageMismatch",
    "Partial",
    "ProtocolError",
    "Resampler",
    "RetryPolicy",
    "SegmentRules",
    "Session",
    "SessionEvent",
    "SessionMetrics",
    "SessionOptions",
    "SessionState",
    "SpeechStarted",
    "StateChanged",
    "TimedWord",
    "Usage",
    "Warmable",
    "available_backends",
    "get_backend",
    "open_session",
]
