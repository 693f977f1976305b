# SPDX-License-Identifier: MIT
"""What comes in as audio: checked, mixed down, refused loudly.

Nothing is guessed: an array says by its shape how many channels it has, bytes by
the session's `AudioFormat`. Constant zero and clipped audio are accepted.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from attrs import field, frozen, validators

from ..errors import AudioFormatError

__all__ = ["MODEL_RATE", "AudioFormat", "AudioInput", "Samples", "to_mono"]

MODEL_RATE = 24_000
"""Samples per second of every backend's input."""

AudioInput = bytes | bytearray | memoryview | npt.NDArray[Any]
"""What `Session.push` takes: bytes, or an int16 or float32 array `(n,)` or
`(n, channels)`."""

Samples = npt.NDArray[np.float32]


@frozen(kw_only=True)
class AudioFormat:
    """How the caller's audio is to be read.

    Raises:
        ValueError: If a value is not one of those named below.
    """

    sample_rate: int = field(
        default=MODEL_RATE, validator=validators.in_(range(4_000, 384_001))
    )
    """Samples per second and channel, 4 000 to 384 000."""
    channels: int = field(default=1, validator=validators.in_(range(1, 33)))
    """Interleaved channels in bytes; arrays carry their own."""
    encoding: Literal["f32le", "s16le"] = field(
        default="f32le", validator=validators.in_(("f32le", "s16le"))
    )
    """Sample encoding of bytes; arrays carry their own."""


def to_mono(audio: AudioInput, format: AudioFormat) -> Samples:
    """Check audio and mix it down.

    Args:
        audio: Interleaved bytes in `format`, or an array: int16 or float32, shape
            `(n,)` or `(n, channels)`; float32 within -1.0 to 1.0 (a little more
            is clipped).
        format: How to read bytes.

    Returns:
        Mono PCM, float32, shape `(n,)`, at the input's own rate. It may share
        memory with `audio`.

    Raises:
        AudioFormatError: If the dtype, shape or byte count is wrong, or a sample is
            NaN, infinite or far out of range.
    """
    if isinstance(audio, np.ndarray):
        array = audio
    elif isinstance(audio, bytes | bytearray | memoryview):
        array = _from_bytes(audio, format)
    else:
        raise AudioFormatError(
            f"audio must be bytes or a numpy array, not {type(audio).__name__}"
        )
    if array.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
        raise AudioFormatError(f"dtype must be int16 or float32, not {array.dtype}")
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= 32):
        raise AudioFormatError(
            f"shape must be (n,) or (n, channels), not {array.shape}"
        )
    if array.dtype == np.int16:
        samples = array.astype(np.float32) * np.float32(1 / 32768)
    else:
        samples = _in_range(array)
    if samples.ndim == 2:
        samples = samples.mean(axis=1, dtype=np.float32)
    return samples


def _from_bytes(
    audio: bytes | bytearray | memoryview, format: AudioFormat
) -> npt.NDArray[Any]:
    dtype = np.dtype("<f4" if format.encoding == "f32le" else "<i2")
    view = memoryview(audio).cast("B") if isinstance(audio, memoryview) else audio
    unit = dtype.itemsize * format.channels
    if len(view) % unit:
        raise AudioFormatError(
            f"{len(view)} bytes are no whole number of samples"
            f" ({format.encoding}, {format.channels} channels: {unit} bytes each)"
        )
    array: npt.NDArray[Any] = np.frombuffer(view, dtype=dtype)
    if format.channels > 1:
        array = array.reshape(-1, format.channels)
    # Native byte order, so that the dtype check means the same everywhere.
    return array.astype(dtype.newbyteorder("="), copy=False)


def _in_range(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Refuse what is no audio, clip what is a little too loud.

    One sample that is not finite leaves a place of moshi-server deaf for all who get
    it later, until the server is restarted (measured on 0.6.4).
    """
    if not samples.size:
        return samples
    peak = float(np.maximum.reduce(np.abs(samples), axis=None))
    if peak <= 1.0:
        return samples
    if not math.isfinite(peak):
        raise AudioFormatError("audio holds NaN or infinite samples")
    # Integers that were only cast to float would deafen any recogniser.
    if peak > 16.0:
        raise AudioFormatError(
            f"float32 audio must lie within -1.0 to 1.0, found a peak of {peak:.4g}"
        )
    return np.clip(samples, -1.0, 1.0)
