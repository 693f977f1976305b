# SPDX-License-Identifier: MIT
"""What every route to decoded audio offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["RATES", "Decoder"]

RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Hz, what libopus decodes to (opus_decoder.h)."""


class Decoder(Protocol):
    """Decodes one stream; every method returns the samples it wrote."""

    can_conceal: bool
    """Whether `recover` and `conceal` do anything."""

    def decode(self, payload: bytes, out: npt.NDArray[np.float32], at: int = 0) -> int:
        """Decode a packet into `out`, shape `(n,)`, from `at`; negative if invalid.

        There must be room for 120 ms. Never raises because of the payload.
        """

    def recover(
        self,
        following: bytes,
        out: npt.NDArray[np.float32],
        samples: int,
        at: int = 0,
    ) -> int:
        """Decode a lost packet from the FEC data of the one after it."""

    def conceal(self, out: npt.NDArray[np.float32], samples: int, at: int = 0) -> int:
        """Go on with what was heard last, fading; multiples of 2.5 ms."""

    def reset(self) -> None:
        """Forget what was heard: the next packet begins a new stream."""

    def close(self) -> None:
        """Free what it holds; it must not be used any more."""
