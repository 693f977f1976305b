# SPDX-License-Identifier: MIT
"""Publishers for the receive benchmark: encoded once, sent to many, lost on purpose."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import aioice.ice
import anyio
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import RtpPacket
from attrs import define, field, frozen

from spreed_signaling.testing.hpb.sfu_aiortc import PacketSender, ParkedTrack

from ._opus import RATE, TICKS, encode

__all__ = [
    "CLICK_EVERY",
    "ENCODER_S",
    "PACKET_S",
    "Loss",
    "Publisher",
    "encode_clicks",
    "only_loopback",
    "send_all",
]

PACKET_S = 0.02

CLICK_EVERY = 50
"""Packets from one click to the next: a second."""

CYCLE_S = 10

ENCODER_S = 0.0065
"""libopus's look-ahead: a click is so much later in the decoded packet."""


def only_loopback() -> None:
    """Keep the connections of this process off interfaces that come and go."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


@frozen
class Loss:
    """How packets get lost."""

    share: float
    """Of all packets."""
    burst: int = 1
    """Packets lost in a row."""

    def pick(self, rng: random.Random, count: int) -> frozenset[int]:
        """Choose the numbers that are lost."""
        lost: set[int] = set()
        for number in range(count):
            if rng.random() < self.share / self.burst:
                lost.update(range(number, number + self.burst))
        return frozenset(lost)


def encode_clicks() -> list[bytes]:
    """Encode ten seconds of something voiced with a click at each full second.

    32 kbit/s with in-band FEC, as Chromium sends.
    """
    t = np.arange(CYCLE_S * RATE) / RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = 0.05 * sum(np.sin(k * phase) / k for k in range(1, 25))
    sound = sound * (0.55 + 0.45 * np.sin(2 * np.pi * 2.3 * t))
    burst = np.sin(2 * np.pi * 1_000 * np.arange(480) / RATE)
    for second in range(CYCLE_S):
        sound[second * RATE : second * RATE + 480] = 0.9 * burst
    return encode(sound.astype(np.float32), fec=True)


@define
class Publisher:
    """One peer connection that sends; `click_times` are on the machine's clock."""

    connection: RTCPeerConnection
    sender: PacketSender
    lost: frozenset[int] = frozenset()
    sent: int = 0
    click_times: list[float] = field(factory=list)

    @classmethod
    async def open(cls) -> Publisher:
        """Make one with its offer."""
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        transceiver = connection.addTransceiver(
            ParkedTrack("audio"), direction="sendonly"
        )
        await connection.setLocalDescription(await connection.createOffer())
        return cls(connection, PacketSender(transceiver))

    @property
    def offer(self) -> str:
        return str(self.connection.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        description = RTCSessionDescription(sdp=answer, type="answer")
        await self.connection.setRemoteDescription(description)
        self.sender.negotiated()

    async def send(self, number: int, payloads: Sequence[bytes]) -> None:
        """Send the packet with this number, unless it is to be lost."""
        place = number % len(payloads)
        if place % CLICK_EVERY == 0:
            self.click_times.append(time.monotonic())
        if number in self.lost:
            return
        self.sent += 1
        await self.sender.send(
            RtpPacket(
                sequence_number=(60_000 + number) & 0xFFFF,
                timestamp=(2**32 - RATE + number * TICKS) & 0xFFFFFFFF,
                payload=payloads[place],
            )
        )


async def send_all(
    publishers: Sequence[Publisher],
    payloads: Sequence[bytes],
    count: int,
    *,
    together: bool,
) -> None:
    """Send so many packets each, in real time, at once or spread over the 20 ms."""
    start = anyio.current_time() + PACKET_S
    spread = 0.0 if together else 1 / len(publishers)
    for number in range(count):
        for index, publisher in enumerate(publishers):
            due = start + (number + index * spread) * PACKET_S
            ahead = due - anyio.current_time()
            if ahead > 0.0005:
                await anyio.sleep(ahead)
            await publisher.send(number, payloads)
