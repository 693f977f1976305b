"""Streams on their way to a receiver, and what comes out of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from attrs import define, field

from spreed_signaling.media import SAMPLE_RATE, AudioChunk
from spreed_signaling.media.receiver import AudioReceiver

from .opus_streams import Floats, Packet, Stream, encode, tone, voice

FEC = {"fec": "1", "packet_loss": "20"}
MS = SAMPLE_RATE // 1000


@functools.cache
def spoken() -> Stream:
    return encode(voice(4.0), bit_rate=32_000, options=FEC)


@functools.cache
def plain() -> Stream:
    """CELT: no packet carries FEC."""
    return encode(tone(4.0), bit_rate=64_000)


@define
class Heard:
    """What came out, and when."""

    chunks: list[AudioChunk] = field(factory=list)
    times: list[float] = field(factory=list)
    now: float = 0.0

    def take(self, chunk: AudioChunk) -> None:
        self.chunks.append(chunk)
        self.times.append(self.now)

    @property
    def samples(self) -> int:
        return sum(len(chunk.samples) for chunk in self.chunks)

    @property
    def gaps(self) -> list[int]:
        return [chunk.gap_samples for chunk in self.chunks if chunk.gap_samples]

    @property
    def concealed_ms(self) -> float:
        return sum(chunk.concealed_ms for chunk in self.chunks)

    def signal(self) -> Floats:
        return np.concatenate([chunk.samples for chunk in self.chunks])

    def check(self) -> int:
        """Samples plus gaps are media time; returns where it ends."""
        position = 0
        for chunk in self.chunks:
            assert chunk.gap_samples >= 0
            position += chunk.gap_samples
            assert round(chunk.media_time_s * chunk.sample_rate) == position
            assert len(chunk.samples) > 0 and np.isfinite(chunk.samples).all()
            position += len(chunk.samples)
        return position


class Line:
    """A receiver and its timer."""

    def __init__(self, receiver: AudioReceiver | None = None) -> None:
        self.heard = Heard()
        self.receiver = AudioReceiver(self.heard.take) if receiver is None else receiver

    def wait_until(self, now: float) -> None:
        while (due := self.receiver.deadline(self.heard.now)) is not None and due < now:
            self.heard.now = max(due, self.heard.now)
            self.receiver.tick(self.heard.now)
        self.heard.now = now

    def send(self, packet: Packet, now: float) -> None:
        self.wait_until(now)
        self.receiver.receive(packet, now)

    def finish(self) -> Heard:
        self.receiver.finish(self.heard.now)
        return self.heard


def play(
    stream: Stream, lost: Sequence[int] = (), count: int = 100, line: Line | None = None
) -> Line:
    line = Line() if line is None else line
    for index in range(count):
        if index not in lost:
            line.send(stream.packet(index), index * 0.02)
    return line
