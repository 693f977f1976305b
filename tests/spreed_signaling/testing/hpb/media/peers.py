"""Clients of the embedded server that publish and receive, packet by packet."""

from __future__ import annotations

import contextlib
import fractions
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.rtp import RtpPacket
from aiortc.sdp import candidate_from_sdp

from spreed_signaling.testing.hpb.sfu_aiortc import take_packets

from ..raw_client import Frame, RawClient


def peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def opus_packets(count: int) -> list[bytes]:
    """Encode a 440 Hz tone into Opus packets of 20 ms."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate = 48000
    encoder.format = av.AudioFormat("s16")
    encoder.layout = av.AudioLayout("stereo")
    packets: list[bytes] = []
    index = 0
    while len(packets) < count:
        t = (np.arange(960) + index * 960) / 48000
        tone = (np.sin(2 * np.pi * 440 * t) * 12000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(
            np.repeat(tone, 2).reshape(1, -1), format="s16", layout="stereo"
        )
        frame.sample_rate = 48000
        frame.pts = index * 960
        packets += [bytes(packet) for packet in encoder.encode(frame)]
        index += 1
    return packets


class PacketTrack(MediaStreamTrack):
    """Plays encoded packets in real time, for ever."""

    kind = "audio"

    def __init__(self, packets: list[bytes]) -> None:
        super().__init__()
        self.packets = packets
        self.sent: list[bytes] = []
        self._start = time.monotonic()

    async def recv(self) -> av.Packet[Any]:
        number = len(self.sent)
        await anyio.sleep(max(0, self._start + number * 0.02 - time.monotonic()))
        payload = self.packets[number % len(self.packets)]
        self.sent.append(payload)
        packet = av.Packet(payload)
        packet.pts = number * 960
        packet.time_base = fractions.Fraction(1, 48000)
        return packet


class Publisher:
    """A member that publishes."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.connection = peer()
        self.track = PacketTrack(opus_packets(50))
        self.frames: list[Frame] = []

    async def publish(self, *, video: bool = False, sid: str = "1234") -> Frame:
        connection = self.connection
        if not connection.getSenders():
            connection.addTrack(self.track)
            if video:
                connection.addTransceiver("video", direction="sendrecv")
        await connection.setLocalDescription(await connection.createOffer())
        payload = {"type": "offer", "sdp": connection.localDescription.sdp}
        await self.client.to_session(
            self.client.session_id,
            {"type": "offer", "sid": sid, "roomType": "video", "payload": payload},
        )
        answer = await self.client.kind("message/answer")
        await self.accept(answer)
        return answer

    async def accept(self, answer: Frame) -> str:
        """Take the server's answer; returns its description."""
        sdp: str = answer["message"]["data"]["payload"]["sdp"]
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        return sdp

    async def connect(self) -> None:
        candidate = await self.client.kind("message/candidate")
        await add_candidate(self.connection, candidate)
        await reach(self.connection, "connected")


class Subscriber:
    """Somebody who receives, packet by packet."""

    def __init__(self, client: RawClient, publisher_id: str) -> None:
        self.client = client
        self.publisher_id = publisher_id
        self.packets: list[RtpPacket] = []
        self.connection = peer()
        self.arrived = anyio.Event()
        self.sid = ""

    async def take(self, offer: Frame, *, hook: bool = True) -> None:
        await self.accept(offer, hook=hook)
        await self.answer()

    async def accept(
        self, offer: Frame, *, hook: bool = True, video: bool = True
    ) -> str:
        """Take an offer; returns the description of our answer, not sent yet."""
        connection, data = self.connection, offer["message"]["data"]
        self.sid = data["sid"]
        if hook:
            connection.on("track", self._on_track)
        await connection.setRemoteDescription(
            RTCSessionDescription(data["payload"]["sdp"], "offer")
        )
        for transceiver in connection.getTransceivers():
            if transceiver.kind == "video" and not video:
                transceiver.direction = "inactive"
        await connection.setLocalDescription(await connection.createAnswer())
        return str(connection.localDescription.sdp)

    async def answer(self, sid: str | None = None) -> str:
        payload = {"type": "answer", "sdp": self.connection.localDescription.sdp}
        data = {"type": "answer", "sid": sid or self.sid, "roomType": "video"}
        return await self.client.to_session(
            self.publisher_id, {**data, "payload": payload}
        )

    async def connect(self) -> None:
        candidate = await self.client.kind("message/candidate")
        await add_candidate(self.connection, candidate)
        await reach(self.connection, "connected")

    async def count(self, packets: int) -> None:
        with anyio.fail_after(5):
            while len(self.packets) < packets:
                await self.arrived.wait()
                self.arrived = anyio.Event()

    async def more(self) -> None:
        """Wait for packets that are not there yet."""
        await self.count(len(self.packets) + 5)

    def _on_track(self, track: MediaStreamTrack) -> None:
        async def keep(packet: RtpPacket) -> None:
            self.packets.append(packet)
            self.arrived.set()

        for receiver in self.connection.getReceivers():
            if receiver.track is track:
                take_packets(receiver, keep)


async def add_candidate(connection: RTCPeerConnection, frame: Frame) -> None:
    value = frame["message"]["data"]["payload"]["candidate"]
    candidate = candidate_from_sdp(value["candidate"].removeprefix("candidate:"))
    candidate.sdpMid = value["sdpMid"]
    candidate.sdpMLineIndex = value["sdpMLineIndex"]
    await connection.addIceCandidate(candidate)


async def reach(connection: RTCPeerConnection, state: str) -> None:
    changed = anyio.Event()
    connection.on("connectionstatechange", lambda: changed.set())
    with anyio.fail_after(5):
        while connection.connectionState != state:
            await changed.wait()
            changed = anyio.Event()


@contextlib.asynccontextmanager
async def subscribed(bot: RawClient, publisher: Publisher) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(bot, publisher.client.session_id)
    await bot.request_offer(subscriber.publisher_id)
    await subscriber.take(await bot.kind("message/offer"))
    try:
        await subscriber.connect()
        yield subscriber
    finally:
        await subscriber.connection.close()
