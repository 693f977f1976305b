# SPDX-License-Identifier: MIT
"""RTP as the receive path needs it: pure, without I/O and without a clock.

Internal to `spreed_signaling.media`; names here may change at any time.
"""

from .opus_packet import PacketFacts, read_packet, read_ticks
from .packet import AudioRtp, is_plain, read_audio_rtp
from .reorder import Released, ReorderBuffer, ReorderStats, RtpLike
from .timing import StreamTiming

__all__ = [
    "AudioRtp",
    "PacketFacts",
    "Released",
    "ReorderBuffer",
    "ReorderStats",
    "RtpLike",
    "StreamTiming",
    "is_plain",
    "read_audio_rtp",
    "read_packet",
    "read_ticks",
]
