"""Opus packets as senders make them, for tests of the receive path."""

from __future__ import annotations

import fractions

import av
import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

Floats = npt.NDArray[np.float32]

TICKS = 960
"""20 ms at 48 kHz."""


@define
class Packet:
    """As `AudioPacket` wants it."""

    sequence_number: int
    timestamp: int
    payload: bytes
    ssrc: int = 1
    payload_type: int = 111
    audio_level: int | None = None


@frozen
class Stream:
    """Encoded audio, one packet each `ticks`."""

    payloads: list[bytes] = field(repr=False)
    ticks: int

    def packet(
        self, index: int, *, seq0: int = 65_530, ts0: int = 2**32 - 5_000
    ) -> Packet:
        """One packet; by default both counters wrap soon."""
        return Packet(
            (seq0 + index) & 0xFFFF,
            (ts0 + index * self.ticks) & 0xFFFFFFFF,
            self.payloads[index],
        )


def encode(
    samples: Floats,
    *,
    bit_rate: int = 64_000,
    ticks: int = TICKS,
    options: dict[str, str] | None = None,
) -> Stream:
    """Encode 48 kHz mono float32, shape `(n,)`."""
    codec = av.AudioCodecContext.create("libopus", "w")
    codec.sample_rate = 48_000
    codec.layout = "mono"
    codec.format = "flt"
    codec.bit_rate = bit_rate
    codec.options = {
        "frame_duration": f"{ticks / 48:g}",
        "application": "voip",
        **(options or {}),
    }
    payloads: list[bytes] = []
    for at in range(0, len(samples) - ticks + 1, ticks):
        part = np.ascontiguousarray(samples[at : at + ticks], np.float32)
        frame = av.AudioFrame.from_ndarray(part[None], format="flt", layout="mono")
        frame.sample_rate = 48_000
        frame.pts = at
        frame.time_base = fractions.Fraction(1, 48_000)
        payloads += [bytes(packet) for packet in codec.encode(frame)]
    return Stream(payloads, ticks)


def tone(seconds: float, frequency: float = 440.0, level: float = 0.4) -> Floats:
    t = np.arange(round(seconds * 48_000)) / 48_000
    return (level * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


def voice(seconds: float, seed: int = 3) -> Floats:
    """Something voiced: harmonics of a wandering pitch under a slow envelope."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 48_000)) / 48_000
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * t) + rng.normal(0, 0.2, len(t))
    phase = 2 * np.pi * np.cumsum(pitch) / 48_000
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 25))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 2.3 * t)
    return (0.15 * harmonics * envelope).astype(np.float32)
