# SPDX-License-Identifier: MIT
"""What a client says: audio in binary messages, requests in text ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "KEEPALIVE",
    "Samples",
    "encode_flush",
    "encode_frame",
    "encode_pcm16",
    "encode_reset",
]

Samples = npt.NDArray[np.float32]

KEEPALIVE = b""
"""An empty binary message; generation 1 does not know it."""


def encode_frame(pcm: Samples) -> bytes:
    """Encode audio as all but generation 1 want it: float32, little-endian.

    Args:
        pcm: Mono PCM, float32, shape `(n,)`, -1.0 to 1.0, 24 000 Hz.
    """
    return np.ascontiguousarray(pcm, dtype="<f4").tobytes()


def encode_pcm16(pcm: Samples) -> bytes:
    """Encode audio for generation 1: int16, little-endian; clips.

    Args:
        pcm: Mono PCM, float32, shape `(n,)`, -1.0 to 1.0, 24 000 Hz.
    """
    scaled = np.rint(pcm * np.float32(32768)).clip(-32768, 32767)
    return bytes(scaled.astype("<i2").tobytes())


def encode_flush(number: int) -> str:
    """Ask for the last words now (protocol 1); answered by `Flushed`."""
    return f'{{"type":"flush","id":{number}}}'


def encode_reset(number: int) -> str:
    """Ask for a fresh start (protocol 1); answered by `WasReset`."""
    return f'{{"type":"reset","id":{number}}}'
