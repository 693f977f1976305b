# SPDX-License-Identifier: MIT
"""Sound as browsers send it."""

from __future__ import annotations

import fractions

import av
import numpy as np
import numpy.typing as npt

__all__ = ["RATE", "TICKS", "encode"]

RATE = 48_000
TICKS = 960
"""Samples of a packet: 20 ms."""


def encode(sound: npt.NDArray[np.float32], *, fec: bool) -> list[bytes]:
    """Encode to Opus: mono, 32 kbit/s, packets of 20 ms.

    Args:
        sound: At 48 000 Hz; what does not fill a packet at the end is left out.
        fec: Whether each packet also carries the one before it once more, as
            Chromium does when its peer reports losses.
    """
    codec = av.AudioCodecContext.create("libopus", "w")
    codec.sample_rate = RATE
    codec.layout = "mono"
    codec.format = "flt"
    codec.bit_rate = 32_000
    codec.options = {"application": "voip"}
    if fec:
        codec.options |= {"fec": "1", "packet_loss": "10"}
    packets: list[bytes] = []
    for at in range(0, len(sound) - TICKS + 1, TICKS):
        part = np.ascontiguousarray(sound[at : at + TICKS])[None]
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
        frame.sample_rate = RATE
        frame.pts = at
        frame.time_base = fractions.Fraction(1, RATE)
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets
