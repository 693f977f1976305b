# SPDX-License-Identifier: MIT
"""Opus to mono float32 at the rate that is wanted, without a detour over 48 kHz.

libopus decodes to 8, 12, 16, 24 and 48 kHz by itself and mixes to mono; that costs
less than decoding to 48 kHz stereo alone. It is called through ctypes, which
releases the GIL. Three routes, tried in this order: the system's libopus, the one
inside the PyAV wheel, and PyAV itself with its resampler (no FEC, no concealment).
"""

from __future__ import annotations

from ._contract import RATES, Decoder
from ._libopus import LibOpus, OpusDecoder, find_libopus
from ._pyav import AvDecoder

__all__ = [
    "RATES",
    "AvDecoder",
    "Decoder",
    "LibOpus",
    "OpusDecoder",
    "find_libopus",
    "open_decoder",
]


def open_decoder(sample_rate: int) -> Decoder:
    """Open a decoder for one stream, by the best route there is.

    Raises:
        ValueError: If there is none for this rate.
    """
    library = find_libopus()
    if library is None:
        return AvDecoder(sample_rate)
    return OpusDecoder(library, sample_rate)
