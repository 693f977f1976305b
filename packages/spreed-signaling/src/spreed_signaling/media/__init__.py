# SPDX-License-Identifier: MIT
"""Media of a call on aiortc (extra `[media]`).

`Call` yields a `Speaker` for every participant with audio; `Speaker.audio()`
yields `AudioChunk`s of 24 kHz mono float32.
"""

from ..errors import MediaError
from ..protocol.negotiation import SubscriptionOptions
from .audio import SAMPLE_RATE, AudioChunk, AudioFile
from .speaker import Speaker, SpeakerStats
from .subscriptions import Call, CallOptions, Publication

__all__ = [
    "SAMPLE_RATE",
    "AudioChunk",
    "AudioFile",
    "Call",
    "CallOptions",
    "MediaError",
    "Publication",
    "Speaker",
    "SpeakerStats",
    "SubscriptionOptions",
]
