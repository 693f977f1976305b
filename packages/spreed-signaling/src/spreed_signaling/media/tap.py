# SPDX-License-Identifier: MIT
"""Packets from behind aiortc's transport, before its jitter buffer and decoder.

aiortc has no public way to them. What is used instead is one private attribute of a
receiver: its jitter buffer is replaced by an object that passes packets on and never
yields a frame. Everything before it stays: SRTP, the check of payload types, the
statistics behind receiver reports. `why_not` states everything relied on; where it
does not hold, and where the tap turns out to be without effect, audio takes the way
through aiortc's own jitter buffer and decoder.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from importlib import metadata
from typing import Any

from aiortc import RTCRtpReceiver
from aiortc.rtp import RtpPacket

from .rtp.packet import AudioRtp

__all__ = [
    "audio_level_id",
    "opus_payload_types",
    "tap_packets",
    "warn_of_stock_path",
    "why_not",
]

_log = logging.getLogger("spreed_signaling.media")

_BUFFER = "_RTCRtpReceiver__jitter_buffer"
_PACKET_PARAMETERS = ["packet", "arrival_time_ms"]


class _PassOn:
    """Stands in for the jitter buffer of one receiver."""

    def __init__(self, handler: Callable[[AudioRtp], None]) -> None:
        self._handler = handler

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Pass a packet on; no frame is complete, no picture to be asked for."""
        level = packet.extensions.audio_level
        self._handler(
            AudioRtp(
                packet.payload_type,
                packet.sequence_number,
                packet.timestamp,
                packet.ssrc,
                packet.payload,
                None if level is None else -level[1],
            )
        )
        return False, None


def why_not(receiver: RTCRtpReceiver) -> str | None:
    """Return why packets of this receiver cannot be tapped; None if they can."""
    buffer: Any = getattr(receiver, _BUFFER, None)
    if buffer is None:
        return f"RTCRtpReceiver has no {_BUFFER.removeprefix('_RTCRtpReceiver')}"
    add = getattr(buffer, "add", None)
    if not callable(add) or inspect.iscoroutinefunction(add):
        return "its jitter buffer has no add()"
    if list(inspect.signature(add).parameters) != ["packet"]:
        return "its jitter buffer's add() takes other arguments"
    handle = getattr(receiver, "_handle_rtp_packet", None)
    if not inspect.iscoroutinefunction(handle):
        return "RTCRtpReceiver has no _handle_rtp_packet()"
    if list(inspect.signature(handle).parameters) != _PACKET_PARAMETERS:
        return "_handle_rtp_packet() takes other arguments"
    if _BUFFER.removeprefix("_RTCRtpReceiver") not in inspect.getsource(
        RTCRtpReceiver._handle_rtp_packet
    ):
        return "_handle_rtp_packet() does not use the jitter buffer"
    return None


def tap_packets(
    receiver: RTCRtpReceiver, handler: Callable[[AudioRtp], None]
) -> str | None:
    """Hand every RTP packet of a receiver to `handler`, and to no decoder.

    Args:
        receiver: One that has not received anything yet.
        handler: Called in the order of arrival, on the event loop. It must neither
            raise nor take long: it runs inside the connection's transport, which
            aiortc closes on any exception.

    Returns:
        Why it is not possible; None if it was done.
    """
    try:
        reason = why_not(receiver)
    except (OSError, TypeError, ValueError) as exc:
        # Signatures or sources that cannot be looked at.
        reason = f"{type(exc).__name__}: {exc}"
    if reason is None:
        setattr(receiver, _BUFFER, _PassOn(handler))
    return reason


def warn_of_stock_path(reason: str) -> None:
    """Tell that audio takes the slow way, and with which aiortc."""
    _log.warning(
        "aiortc %s: packets cannot be taken before its jitter buffer (%s); audio "
        "comes late and incomplete after packet loss",
        metadata.version("aiortc"),
        reason,
    )


def opus_payload_types(sdp: str) -> frozenset[int]:
    """Return the payload types that a description maps to Opus (RFC 7587)."""
    found = re.findall(r"(?mi)^a=rtpmap:(\d{1,3}) opus/48000", sdp)
    return frozenset(int(number) for number in found)


def audio_level_id(sdp: str) -> int | None:
    """Return the number that a description gives the audio level (RFC 6464)."""
    uri = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
    found = {
        int(one) for one in re.findall(rf"(?m)^a=extmap:(\d{{1,3}})\S* {uri}", sdp)
    }
    return found.pop() if len(found) == 1 else None
