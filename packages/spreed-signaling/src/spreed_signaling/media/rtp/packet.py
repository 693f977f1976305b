# SPDX-License-Identifier: MIT
"""The one RTP packet that matters here: read from its bytes, nothing else kept.

Only the plain form is read (RFC 3550, section 5.1): version 2, no padding, no
contributing sources. That is what an SFU forwards; anything else is left to aiortc.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["HEADER_BYTES", "AudioRtp", "is_plain", "read_audio_rtp"]

HEADER_BYTES = 12
"""Of the fixed part (RFC 3550, section 5.1)."""

_FIXED = Struct("!xBHLL")
_ONE_BYTE_IDS = 0xBEDE
"""RFC 8285, section 4.2."""
_TWO_BYTE_IDS = 0x1000
"""RFC 8285, section 4.3; the last four bits are the application's."""
_RESERVED_ID = 15
"""Ends the elements (RFC 8285, section 4.2)."""


class AudioRtp:
    """A packet of audio."""

    __slots__ = (
        "audio_level",
        "payload",
        "payload_type",
        "sequence_number",
        "ssrc",
        "timestamp",
    )

    def __init__(
        self,
        payload_type: int,
        sequence_number: int,
        timestamp: int,
        ssrc: int,
        payload: bytes,
        audio_level: int | None = None,
    ) -> None:
        self.payload_type = payload_type
        self.sequence_number = sequence_number
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload = payload
        self.audio_level = audio_level
        """dBov, -127 to 0 (RFC 6464); None if the sender states none."""


def is_plain(data: bytes) -> bool:
    """Whether these bytes begin like a packet that `read_audio_rtp` reads."""
    return len(data) > HEADER_BYTES and data[0] & 0xEF == 0x80


def read_audio_rtp(data: bytes, level_id: int | None) -> AudioRtp | None:
    """Read a plain packet, decrypted; never raises.

    Args:
        data: For which `is_plain` holds.
        level_id: Number of the audio-level extension (RFC 6464), 1 to 255.

    Returns:
        None if it is malformed.
    """
    marker_type, number, timestamp, ssrc = _FIXED.unpack_from(data)
    at = HEADER_BYTES
    level = None
    if data[0] & 0x10:
        if len(data) < at + 4:
            return None
        at += 4 + 4 * (data[14] << 8 | data[15])
        if len(data) < at:
            return None
        if level_id is not None:
            level = _find_level(data, at, level_id)
    return AudioRtp(marker_type & 0x7F, number, timestamp, ssrc, data[at:], level)


def _find_level(data: bytes, end: int, level_id: int) -> int | None:
    """Search the extension elements, which end at `end`, for an audio level."""
    kind = data[12] << 8 | data[13]
    if kind == _ONE_BYTE_IDS:
        header = 1
    elif kind & 0xFFF0 == _TWO_BYTE_IDS:
        header = 2
    else:
        return None
    at = HEADER_BYTES + 4
    while at + header <= end:
        first = data[at]
        if first == 0:
            # Padding between elements.
            at += 1
            continue
        if header == 1:
            number, length = first >> 4, (first & 15) + 1
            if number == _RESERVED_ID:
                return None
        else:
            number, length = first, data[at + 1]
        at += header
        if number == level_id:
            return -(data[at] & 0x7F) if length == 1 and at < end else None
        at += length
    return None
