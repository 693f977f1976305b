# SPDX-License-Identifier: MIT
"""Ways to put a frame of audio into MessagePack, and what they cost alone."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Literal, Protocol

import msgpack
import numpy as np
import numpy.typing as npt

from kyutai_stream.wire.moshi import FrameEncoder

from ._figures import Row

__all__ = ["ENCODERS", "Encoder", "Encoding", "encoder_rows"]

Samples = npt.NDArray[np.float32]
Encoding = Literal["ours", "tolist-single", "tolist-double"]


class Encoder(Protocol):
    """Turns a frame into an `Audio` message."""

    def encode(self, frame: Samples, /) -> bytes:
        """Encode one frame of 1 920 samples."""


class Naive:
    """What clients in the wild do: Python floats, one by one.

    Args:
        single: Whether they are sent as single floats; the default of MessagePack
            libraries is double, which is also 80 % longer.
    """

    def __init__(self, *, single: bool) -> None:
        self._single = single

    def encode(self, frame: Samples) -> bytes:
        message = {"type": "Audio", "pcm": frame.tolist()}
        packed: bytes = msgpack.packb(message, use_single_float=self._single)
        return packed


ENCODERS: dict[Encoding, Callable[[], Encoder]] = {
    "ours": FrameEncoder,
    "tolist-single": lambda: Naive(single=True),
    "tolist-double": lambda: Naive(single=False),
}


def encoder_rows(frames: int = 2000) -> list[Row]:
    """Time the encoders alone: the best of five series, µs per frame."""
    random = np.random.default_rng(1)
    frame = (0.1 * random.standard_normal(1920)).astype(np.float32)
    rows: list[Row] = []
    for name, make in ENCODERS.items():
        encoder = make()
        series = timeit.repeat(
            lambda encoder=encoder: encoder.encode(frame),  # type: ignore[misc]  # bound now
            number=max(1, frames // 5),
            repeat=5,
        )
        rows.append(
            {
                "encoding": name,
                "us_per_frame": min(series) / max(1, frames // 5) * 1e6,
                "bytes_per_frame": len(encoder.encode(frame)),
            }
        )
    return rows
