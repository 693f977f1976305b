# SPDX-License-Identifier: MIT
"""RTP as the receive path needs it: pure, without I/O and without a clock.

Internal to `spreed_signaling.media`; names here may change at any time.
"""

from .opus_packet import PacketFacts, read_packet
from .reorder import Released, ReorderBuffer, ReorderStats, RtpLike
from .timing import StreamTiming

__all__ = [
    "PacketFacts",
    "Released",
    "ReorderBuffer",
    "ReorderStats",
    "RtpLike",
    "StreamTiming",
    "read_packet",
]
