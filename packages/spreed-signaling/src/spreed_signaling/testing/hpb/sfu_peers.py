# SPDX-License-Identifier: MIT
"""The server's ends of the media connections: one publisher, one subscriber."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtp import RtpPacket
from aiortc.sdp import candidate_from_sdp
from attrs import frozen

from . import sfu_sdp
from .sfu_aiortc import (
    PacketSender,
    ParkedTrack,
    on_keyframe_request,
    payload_type,
    request_keyframe,
    take_packets,
)

__all__ = ["Description", "PublisherPeer", "SubscriberPeer"]

logger = logging.getLogger("spreed_signaling.testing.hpb")

_CODECS = {"audio": "audio/opus", "video": "video/vp8"}


@frozen(kw_only=True)
class Description:
    """An offer or answer for a client, with its candidates beside it."""

    sid: str
    sdp: str
    candidates: tuple[dict[str, Any], ...]


def _connection() -> RTCPeerConnection:
    # Without a configuration aiortc asks a public STUN server.
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def _prefer(transceiver: RTCRtpTransceiver) -> None:
    codecs = RTCRtpSender.getCapabilities(transceiver.kind).codecs
    wanted = _CODECS[transceiver.kind]
    transceiver.setCodecPreferences(
        [codec for codec in codecs if codec.mimeType.lower() == wanted]
    )


async def _add_candidate(connection: RTCPeerConnection, value: dict[str, Any]) -> None:
    text = value["candidate"].removeprefix("candidate:")
    candidate = candidate_from_sdp(text)
    index = value.get("sdpMLineIndex")
    # `sdpMid` may be the empty string, then the index counts.
    candidate.sdpMid = value.get("sdpMid") or None
    candidate.sdpMLineIndex = index if isinstance(index, int) else 0
    await connection.addIceCandidate(candidate)


class PublisherPeer:
    """Receives one participant's stream and passes its packets on.

    Args:
        sid: The client's id of this connection.
        on_change: Called when media starts or stops being available.
        lose: Asked with the running number of each audio packet, counted from 0;
            True loses it.
    """

    def __init__(
        self,
        sid: str,
        on_change: Callable[[], None],
        lose: Callable[[int], bool],
    ) -> None:
        self.sid = sid
        self.name = f"VideoRoom {secrets.randbelow(9 * 10**15) + 10**15}"
        self.subscribers: set[SubscriberPeer] = set()
        self._on_change = on_change
        self._lose = lose
        self._audio_packets = 0
        self._keyframe_wanted = False
        self._hooked: list[RTCRtpReceiver] = []
        self._connection = _connection()
        self._connection.on("connectionstatechange", on_change)

    @property
    def feeding(self) -> bool:
        """Whether the media connection stands."""
        return self._connection.connectionState == "connected"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which kinds of media are published, audio first."""
        found = {
            item.kind
            for item in self._connection.getTransceivers()
            if item.currentDirection in ("recvonly", "sendrecv")
        }
        return tuple(sorted(found))

    async def answer(self, sdp: str) -> Description:
        """Answer an offer, the first one or a renegotiation.

        Raises:
            ValueError: If the offer cannot be used.
        """
        connection = self._connection
        lines = sfu_sdp.offered_kinds(sdp)
        known = len(connection.getTransceivers())
        for kind, _, forwardable in [x for x in lines if x[0] in _CODECS][known:]:
            transceiver = connection.addTransceiver(kind, direction="recvonly")
            if forwardable:
                _prefer(transceiver)
            else:
                transceiver.direction = "inactive"
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        for transceiver in connection.getTransceivers():
            self._hook(transceiver)
        await connection.setLocalDescription(await connection.createAnswer())
        local = connection.localDescription.sdp
        return Description(
            sid=self.sid,
            sdp=sfu_sdp.strip(local, self.name),
            candidates=sfu_sdp.candidates(local),
        )

    async def add_candidate(self, value: dict[str, Any]) -> None:
        """Add a trickled candidate of the client."""
        await _add_candidate(self._connection, value)

    def want_keyframe(self) -> None:
        """Ask for a video key frame with the next packet."""
        self._keyframe_wanted = True

    async def close(self) -> None:
        """Close the connection. Subscribers keep theirs, without packets."""
        for subscriber in list(self.subscribers):
            subscriber.publisher = None
        self.subscribers.clear()
        await self._connection.close()

    def _hook(self, transceiver: RTCRtpTransceiver) -> None:
        receiver = transceiver.receiver
        if receiver.track is None or receiver in self._hooked:
            return
        self._hooked.append(receiver)

        async def forward(packet: RtpPacket) -> None:
            if packet.payload_type != payload_type(transceiver):
                return
            if transceiver.kind == "audio":
                index, self._audio_packets = (
                    self._audio_packets,
                    self._audio_packets + 1,
                )
                if self._lose(index):
                    return
            elif self._keyframe_wanted:
                self._keyframe_wanted = False
                await request_keyframe(receiver, packet.ssrc)
            for subscriber in list(self.subscribers):
                await subscriber.forward(transceiver.kind, packet)

        take_packets(receiver, forward)


class SubscriberPeer:
    """Sends one publisher's packets to one subscriber."""

    def __init__(self, publisher: PublisherPeer) -> None:
        self.sid = str(secrets.randbelow(9 * 10**15) + 10**15)
        self.publisher: PublisherPeer | None = publisher
        self._name = publisher.name
        self._senders: dict[str, PacketSender] = {}
        self._answered = False
        self._early: list[dict[str, Any]] = []
        self._connection = _connection()
        publisher.subscribers.add(self)

    @property
    def alive(self) -> bool:
        """Whether the connection may still be used for a new offer."""
        return self._connection.connectionState not in ("closed", "failed")

    async def offer(self, kinds: tuple[str, ...]) -> Description:
        """Make an offer for what is published, the first one or an update."""
        connection = self._connection
        for kind in kinds:
            if kind not in self._senders:
                track: MediaStreamTrack = ParkedTrack(kind)
                transceiver = connection.addTransceiver(track, direction="sendonly")
                _prefer(transceiver)
                on_keyframe_request(transceiver.sender, self._want_keyframe)
                self._senders[kind] = PacketSender(transceiver)
        offer = await connection.createOffer()
        renumbered = sfu_sdp.janus_offer(offer.sdp)
        await connection.setLocalDescription(RTCSessionDescription(renumbered, "offer"))
        local = connection.localDescription.sdp
        return Description(
            sid=self.sid,
            sdp=sfu_sdp.strip(local, self._name),
            candidates=() if self._answered else sfu_sdp.candidates(local),
        )

    async def accept(self, sdp: str) -> None:
        """Apply the client's answer.

        Raises:
            ValueError: If it does not fit the offer.
        """
        await self._connection.setRemoteDescription(
            RTCSessionDescription(sdp, "answer")
        )
        self._answered = True
        for sender in self._senders.values():
            sender.negotiated()
        self._want_keyframe()
        early, self._early = self._early, []
        for value in early:
            await _add_candidate(self._connection, value)

    async def add_candidate(self, value: dict[str, Any]) -> None:
        """Add a trickled candidate of the client; kept until the answer is there."""
        if self._answered:
            await _add_candidate(self._connection, value)
        elif len(self._early) < 64:
            self._early.append(value)

    def select(self, kind: str, enabled: bool) -> None:
        """Switch one kind of media on or off."""
        if kind in self._senders:
            self._senders[kind].enabled = enabled

    async def forward(self, kind: str, packet: RtpPacket) -> None:
        """Send one packet of the publisher."""
        sender = self._senders.get(kind)
        if sender is not None:
            await sender.send(packet)

    async def close(self) -> None:
        """Close the connection; the client sees its end at once (DTLS close)."""
        if self.publisher is not None:
            self.publisher.subscribers.discard(self)
            self.publisher = None
        await self._connection.close()

    def _want_keyframe(self) -> None:
        if self.publisher is not None:
            self.publisher.want_keyframe()
