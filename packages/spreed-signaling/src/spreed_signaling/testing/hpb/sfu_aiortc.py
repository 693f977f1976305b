# SPDX-License-Identifier: MIT
"""The only place that touches private parts of aiortc and aioice.

aiortc decodes what it receives and encodes what it sends; it has no way to pass
RTP packets on. An SFU must, because loss and reordering have to stay visible to
the subscriber, and because transcoding would cost a decoder and an encoder per
stream. So this file reads packets at the receiver and writes them to the
sender's transport. `missing_names` states everything it relies on; a test calls
it, so that a changed aiortc fails there, with names, and not in odd behaviour.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable

import aioice.ice
import anyio
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCRtpTransceiver,
    clock,
)
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpParameters
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import HeaderExtensions, HeaderExtensionsMap, RtpPacket

__all__ = [
    "PacketSender",
    "ParkedTrack",
    "missing_names",
    "on_keyframe_request",
    "payload_type",
    "request_keyframe",
    "take_packets",
]

logger = logging.getLogger("spreed_signaling.testing.hpb")

PacketHandler = Callable[[RtpPacket], Awaitable[None]]

_STREAMS = "_RTCRtpReceiver__remote_streams"
_COUNTERS = {
    "ntp": "_RTCRtpSender__ntp_timestamp",
    "rtp": "_RTCRtpSender__rtp_timestamp",
    "octets": "_RTCRtpSender__octet_count",
    "packets": "_RTCRtpSender__packet_count",
}


def missing_names() -> list[str]:
    """Return what this file needs and the installed aiortc does not have.

    Needs a running event loop. An empty list means that the contract holds.
    """
    missing: list[str] = []
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver = connection.addTransceiver("audio", direction="sendrecv")
    wanted: list[tuple[object, str]] = [
        (transceiver, "_codecs"),
        (transceiver, "_headerExtensions"),
        (transceiver.receiver, "_handle_rtp_packet"),
        (transceiver.receiver, "_send_rtcp_pli"),
        (transceiver.receiver, _STREAMS),
        (transceiver.sender, "_send_keyframe"),
        (transceiver.sender, "_ssrc"),
        (transceiver.sender.transport, "_send_rtp"),
        (aioice.ice, "get_host_addresses"),
    ]
    wanted += [(transceiver.sender, name) for name in _COUNTERS.values()]
    for owner, name in wanted:
        if not hasattr(owner, name):
            missing.append(f"{type(owner).__name__}.{name}")
    for function, expected in (
        (RTCRtpReceiver._handle_rtp_packet, ["self", "packet", "arrival_time_ms"]),
        (RTCDtlsTransport._send_rtp, ["self", "data"]),
    ):
        found = list(inspect.signature(function).parameters)
        if found != expected or not inspect.iscoroutinefunction(function):
            missing.append(f"{function.__qualname__}({', '.join(expected)})")
    return missing


def take_packets(receiver: RTCRtpReceiver, handler: PacketHandler) -> None:
    """Hand every RTP packet of a receiver to `handler`, and to nothing else.

    Nothing is decoded. Receiver reports to the far end go on, because the
    packets still feed aiortc's statistics. A handler that raises is logged: an
    exception would make aiortc close the whole transport.

    Args:
        receiver: A receiver that has not received anything yet.
        handler: Called in the order of arrival; must not wait for anything.
    """
    statistics = getattr(receiver, _STREAMS)
    clock_rate = 48000 if receiver.track.kind == "audio" else 90000

    async def handle(packet: RtpPacket, arrival_time_ms: int) -> None:
        try:
            if packet.ssrc not in statistics:
                statistics[packet.ssrc] = StreamStatistics(clock_rate)
            statistics[packet.ssrc].add(packet)
            await handler(packet)
        except Exception:
            logger.exception("forwarding a media packet failed")

    receiver._handle_rtp_packet = handle  # type: ignore[method-assign]  # the hook


def payload_type(transceiver: RTCRtpTransceiver) -> int | None:
    """Return the negotiated RTP payload type, None before negotiation."""
    codecs = transceiver._codecs
    return codecs[0].payloadType if codecs else None


async def request_keyframe(receiver: RTCRtpReceiver, ssrc: int) -> None:
    """Ask the far end for a video key frame (RTCP picture loss indication)."""
    await receiver._send_rtcp_pli(ssrc)


def on_keyframe_request(sender: RTCRtpSender, callback: Callable[[], None]) -> None:
    """Call `callback` when the far end asks for a video key frame."""
    sender._send_keyframe = callback  # type: ignore[method-assign]  # the hook


class PacketSender:
    """Sends a publisher's packets as the sender of one subscriber's transceiver.

    Payload, marker, sequence number and timestamp stay as they came; SSRC,
    payload type and header extensions become those of this connection.
    """

    def __init__(self, transceiver: RTCRtpTransceiver) -> None:
        self._transceiver = transceiver
        self._sender = transceiver.sender
        self._extensions: HeaderExtensionsMap | None = None
        self.enabled = True
        """Switched by the subscriber's `selectStream`."""

    def negotiated(self) -> None:
        """Read the outcome of a new answer."""
        self._extensions = HeaderExtensionsMap()
        self._extensions.configure(
            RTCRtpParameters(headerExtensions=self._transceiver._headerExtensions)
        )

    async def send(self, packet: RtpPacket) -> None:
        """Send one packet; does nothing while the transport is not connected."""
        number = payload_type(self._transceiver)
        if not self.enabled or self._extensions is None or number is None:
            return
        if self._transceiver.currentDirection not in ("sendonly", "sendrecv"):
            return
        copy = RtpPacket(
            payload_type=number,
            marker=packet.marker,
            sequence_number=packet.sequence_number,
            timestamp=packet.timestamp,
            ssrc=self._sender._ssrc,
            payload=packet.payload,
        )
        copy.extensions = HeaderExtensions(
            audio_level=packet.extensions.audio_level, mid=self._transceiver.mid
        )
        try:
            await self._sender.transport._send_rtp(copy.serialize(self._extensions))
        except ConnectionError:
            return
        self._count(packet)

    def _count(self, packet: RtpPacket) -> None:
        """Keep aiortc's sender reports right."""
        sender = self._sender
        setattr(sender, _COUNTERS["ntp"], clock.current_ntp_time())
        setattr(sender, _COUNTERS["rtp"], packet.timestamp)
        for name, step in (("octets", len(packet.payload)), ("packets", 1)):
            setattr(sender, _COUNTERS[name], getattr(sender, _COUNTERS[name]) + step)


class ParkedTrack(MediaStreamTrack):
    """A track that never yields: the packets come from elsewhere."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    async def recv(self) -> None:  # type: ignore[override]  # it never returns
        """Wait until the sender is stopped."""
        await anyio.sleep_forever()
