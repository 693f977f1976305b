# SPDX-License-Identifier: MIT
"""Settings of a session."""

from __future__ import annotations

from attrs import Factory, frozen

from ..audio import AudioFormat
from ..core import RetryPolicy
from ..transcript import SegmentRules

__all__ = ["SessionOptions"]


@frozen(kw_only=True)
class SessionOptions:
    """How a session behaves; the defaults suit live captions."""

    input_format: AudioFormat = Factory(AudioFormat)
    """Rate of the pushed audio, and encoding and channels of pushed bytes."""
    input_buffer_s: float = 30.0
    """Most seconds of audio that wait while the backend is slow or away. When
    full, `push` waits and `try_push` refuses."""
    event_buffer: int = 1024
    """Most undelivered events (partials are merged first). When full, reading
    from the backend waits, which in the end makes `push` wait."""
    stall_s: float = 0.3
    """Audio this late (mute, DTX, lost track) counts as a pause: the last words
    are flushed out. Counted from when the pushed audio would have been played."""
    gap_silence_s: float = 1.0
    """Most silence fed for a jump in `media_time`; the rest only moves the map."""
    connect_timeout_s: float = 20.0
    """Time for a connection to become ready."""
    send_timeout_s: float = 10.0
    """Time for the backend to take one frame, a flush request or a keepalive."""
    end_timeout_s: float = 5.0
    """Time for the last words after `end_input`."""
    retry: RetryPolicy = Factory(RetryPolicy)
    """When to connect again."""
    segments: SegmentRules = Factory(SegmentRules)
    """When a segment becomes final."""
