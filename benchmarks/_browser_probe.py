# SPDX-License-Identifier: MIT
"""What the receiver sees of a browser's packets, and a bad network before the SFU."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest import mock

import anyio
from anyio.abc import TaskGroup, UDPSocket
from attrs import define, field, frozen

from spreed_signaling.media.receiver import AudioPacket, AudioReceiver
from spreed_signaling.media.rtp import read_packet

from ._figures import Row, percentile

__all__ = ["LossyRelay", "Packets", "Seen", "describe", "open_relay", "watch_packets"]

_MODES = ("SILK",) * 12 + ("hybrid",) * 4 + ("CELT",) * 16
_BANDS_KHZ = (*(4,) * 4, *(6,) * 4, *(8,) * 4, 12, 12, 20, 20) + tuple(
    band for band in (4, 8, 12, 20) for _ in range(4)
)
"""Audio bandwidth by configuration number (RFC 6716, table 2)."""


@frozen(kw_only=True)
class Seen:
    """One packet as it reached the receiver."""

    at: float
    sequence_number: int
    timestamp: int
    size: int
    """Bytes of Opus."""
    ticks: int
    """Duration at 48 kHz."""
    fec_ticks: int
    kind: str
    """Of the encoder: mode, bandwidth, channels."""
    level: int | None
    """dBov, as the sender states it."""


@define
class Packets:
    """Those that were seen so far."""

    seen: list[Seen] = field(factory=list)

    def add(self, packet: AudioPacket, now: float) -> None:
        """Note one."""
        payload = bytes(packet.payload)
        facts = read_packet(payload)
        self.seen.append(
            Seen(
                at=now,
                sequence_number=packet.sequence_number,
                timestamp=packet.timestamp,
                size=len(payload),
                ticks=facts.ticks,
                fec_ticks=facts.fec_ticks,
                kind=_kind(payload),
                level=packet.audio_level,
            )
        )

    async def wait_for(self, seconds: float, start: int, limit_s: float) -> None:
        """Wait until so much media time has passed from the packet with index `start`.

        Looked at now and then: a figure that is measured over seconds.
        """
        with anyio.fail_after(limit_s):
            while _span(self.seen[start:]) < seconds * 48_000:  # noqa: ASYNC110
                await anyio.sleep(0.05)

    async def wait_for_pause(self, seconds: float, limit_s: float) -> None:
        """Wait until no packet has come for so long."""
        with anyio.fail_after(limit_s):
            count = -1
            while count != len(self.seen):
                count = len(self.seen)
                await anyio.sleep(seconds)

    def delivered_share(self) -> float:
        """How many of the numbers between the first and the last have come."""
        first = self.seen[0].sequence_number
        # Distances, because the number has 16 bits and wraps.
        places = {(one.sequence_number - first) & 0xFFFF for one in self.seen}
        return len(places) / (max(places) + 1)


def _span(seen: Sequence[Seen]) -> int:
    """Ticks from the beginning of the first to the end of the last packet."""
    if not seen:
        return 0
    return (seen[-1].timestamp - seen[0].timestamp & 0xFFFFFFFF) + seen[-1].ticks


def _kind(payload: bytes) -> str:
    if not payload:
        return "empty"
    number = payload[0] >> 3
    channels = "stereo" if payload[0] & 4 else "mono"
    return f"{_MODES[number]} {_BANDS_KHZ[number]} kHz {channels}"


@contextmanager
def watch_packets() -> Iterator[Packets]:
    """Note every packet that reaches a receiver of this process.

    The receiver itself is not asked: what it counts is what is to be checked.
    """
    packets = Packets()
    original = AudioReceiver.receive

    def receive(self: AudioReceiver, packet: AudioPacket, now: float) -> Any:
        packets.add(packet, now)
        return original(self, packet, now)

    with mock.patch.object(AudioReceiver, "receive", receive):
        yield packets


def describe(seen: Sequence[Seen], seconds: float) -> Row:
    """Figures of the packets that came within so many seconds."""
    sizes = [one.size for one in seen]
    levels = [one.level for one in seen if one.level is not None]
    lengths = sorted({one.ticks // 48 for one in seen})
    return {
        "packets_per_s": len(seen) / seconds,
        "payload_bytes_p50": percentile(sizes, 50),
        "payload_bytes_max": max(sizes, default=math.nan),
        "kbit_per_s": sum(sizes) * 8 / 1000 / seconds,
        "packet_ms": ", ".join(map(str, lengths)),
        "opus": ", ".join(sorted({one.kind for one in seen})),
        "fec_share": _share([one.fec_ticks > 0 for one in seen]),
        "level_share": _share([one.level is not None for one in seen]),
        "level_dbov_p50": percentile(levels, 50),
        "level_dbov_max": max(levels, default=math.nan),
    }


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else math.nan


class LossyRelay:
    """Stands before the SFU and loses audio that the browser sends.

    Args:
        loss: Share of the audio packets.
        host: Own address that reaches the SFU.
        tasks: Where it runs.
    """

    def __init__(self, loss: float, host: str, tasks: TaskGroup) -> None:
        self.lost = 0
        self._loss = loss
        self._host = host
        self._tasks = tasks
        self._random = random.Random(7)

    async def reroute(self, host: str, port: int) -> tuple[str, int]:
        """Open a way to this address; returns where the browser has to send."""
        near = await anyio.create_udp_socket(local_host=self._host)
        far = await anyio.create_udp_socket(local_host=self._host)
        self._tasks.start_soon(self._run, near, far, (host, port))
        return self._host, near.extra_attributes[anyio.abc.SocketAttribute.local_port]()

    async def _run(self, near: UDPSocket, far: UDPSocket, sfu: tuple[str, int]) -> None:
        browser: list[tuple[str, int]] = []

        async def back() -> None:
            async for data, _ in far:
                if browser:
                    await near.sendto(data, *browser[0])

        async with near, far, anyio.create_task_group() as tasks:
            tasks.start_soon(back)
            async for data, address in near:
                browser[:] = [address]
                if not self._loses(data):
                    await far.sendto(data, *sfu)

    def _loses(self, data: bytes) -> bool:
        # RTP has version 2, and RTCP payload types from 64 on (RFC 5761, section 4).
        is_audio = (
            len(data) > 12 and data[0] >> 6 == 2 and not 64 <= data[1] & 0x7F < 96
        )
        lost = is_audio and self._random.random() < self._loss
        self.lost += lost
        return lost


@asynccontextmanager
async def open_relay(loss: float, host: str) -> AsyncIterator[LossyRelay]:
    """Run a relay for the length of the block."""
    async with anyio.create_task_group() as tasks:
        yield LossyRelay(loss, host, tasks)
        tasks.cancel_scope.cancel()
