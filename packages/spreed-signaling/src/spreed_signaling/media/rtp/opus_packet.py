# SPDX-License-Identifier: MIT
"""What an Opus packet says about itself without being decoded (RFC 6716)."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LONGEST_TICKS", "PacketFacts", "read_packet", "read_ticks"]

LONGEST_TICKS = 5_760
"""120 ms at 48 kHz, the most one packet may hold (RFC 6716, section 3.2.5)."""

# Frame sizes at 48 kHz by configuration number (RFC 6716, table 2).
_FRAME_TICKS = (
    *(480, 960, 1_920, 2_880) * 3,
    *(480, 960) * 2,
    *(120, 240, 480, 960) * 4,
)
_FIRST_CELT = 16
"""Configurations from here on are CELT only, which knows no FEC."""


class PacketFacts(NamedTuple):
    """What is known of a packet before decoding."""

    ticks: int
    """Duration at 48 kHz; 0 if the packet cannot be valid."""
    fec_ticks: int
    """How much of what came before it carries once more (in-band FEC), usually 0."""


_INVALID = PacketFacts(0, 0)


def read_ticks(payload: bytes) -> int:
    """Return a packet's duration at 48 kHz, 0 if it cannot be valid; never raises."""
    if not payload:
        return 0
    toc = payload[0]
    code = toc & 3
    if code == 0:
        return _FRAME_TICKS[toc >> 3]
    if code < 3:
        count = 2
    elif len(payload) > 1:
        count = payload[1] & 0x3F
    else:
        return 0
    ticks = count * _FRAME_TICKS[toc >> 3]
    return ticks if ticks <= LONGEST_TICKS else 0


def read_packet(payload: bytes) -> PacketFacts:
    """Read the table of contents of a payload; never raises."""
    ticks = read_ticks(payload)
    if not ticks:
        return _INVALID
    toc = payload[0]
    frame_ticks = _FRAME_TICKS[toc >> 3]
    if toc >> 3 >= _FIRST_CELT:
        return PacketFacts(ticks, 0)
    # The copy is as long as one frame (RFC 6716, section 2.1.7).
    fec_ticks = frame_ticks if _has_fec(payload, toc, frame_ticks) else 0
    return PacketFacts(ticks, fec_ticks)


def _has_fec(payload: bytes, toc: int, frame_ticks: int) -> bool:
    """Read the LBRR flags of the first frame (RFC 6716, section 4.2.3).

    They follow one voice-activity bit for each 20 ms and channel, unmodelled.
    """
    start = _first_frame(payload)
    if start is None or start >= len(payload):
        return False
    first = payload[start]
    silk_frames = max(1, frame_ticks // 960)
    flags = first >> (7 - silk_frames) & 1
    if toc & 4:
        flags |= first >> (6 - 2 * silk_frames) & 1
    return bool(flags)


def _first_frame(payload: bytes) -> int | None:
    """Return where the first frame begins (RFC 6716, section 3.2)."""
    code = payload[0] & 3
    if code < 2:
        return 1
    if code == 2:
        return _after_length(payload, 1)
    at = 2
    if payload[1] & 0x40:
        while at < len(payload) and payload[at] == 255:
            at += 1
        at += 1
    if payload[1] & 0x80:
        for _ in range((payload[1] & 0x3F) - 1):
            after = _after_length(payload, at)
            if after is None:
                return None
            at = after
    return at


def _after_length(payload: bytes, at: int) -> int | None:
    """Skip a frame length of one or two bytes."""
    if at >= len(payload):
        return None
    return at + (1 if payload[at] < 252 else 2)
