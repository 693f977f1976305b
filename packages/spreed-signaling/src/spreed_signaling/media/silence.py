# SPDX-License-Identifier: MIT
"""Long silence that the sender states need not be decoded.

Media time and the decoder's state stay right: zeros of the same length are written, and
when sound returns, the decoder first gets the last packets that it missed. A level is
only a claim, so one packet in a while is decoded nevertheless.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from .opus import Decoder
from .receiver_stats import Counters
from .rtp.opus_packet import LONGEST_TICKS

__all__ = ["SILENT", "Silence"]

_RATE = 48_000

SILENT = -127
"""dBov, digital silence (RFC 6464): a muted microphone that goes on sending."""

_SKIP_AFTER_TICKS = _RATE // 2
"""Half a second of stated silence, then decoding is skipped."""

_PROBE_EVERY = 25
"""Of so many silent packets one is decoded, to see whether it really is."""

_QUIET_POWER = 1e-7
"""-70 dBFS: what counts as silence when a probe is decoded."""


class Silence:
    """Follows what one decoder need not decode.

    Args:
        decoder: It.
        step: Ticks of 1/48000 s in a sample.
        counters: Where skipped time is counted.
    """

    def __init__(self, decoder: Decoder, step: int, counters: Counters) -> None:
        self._decoder = decoder
        self._step = step
        self._counters = counters
        self._scratch = np.zeros(LONGEST_TICKS // step, np.float32)
        self._ticks = self._in_row = 0
        self._missed: deque[bytes] = deque(maxlen=3)

    def end(self) -> None:
        """A packet that is not silent comes next."""
        if self._ticks:
            self._catch_up()
            self._ticks = self._in_row = 0

    def begin(self, ticks: int) -> bool:
        """Note a packet of stated silence; returns whether it may be skipped."""
        self._ticks += ticks
        return self._ticks >= _SKIP_AFTER_TICKS

    def write(
        self, payload: bytes, ticks: int, out: npt.NDArray[np.float32], at: int
    ) -> int:
        """Write a packet's silence into `out` from `at`; returns the samples."""
        if self._in_row % _PROBE_EVERY == 0:
            self._catch_up()
            samples = self._decoder.decode(payload, out, at)
            heard = out[at : at + max(samples, 0)]
            if float(np.dot(heard, heard)) > _QUIET_POWER * len(heard):
                self._ticks = self._in_row = 0
                return samples
        else:
            samples = ticks // self._step
            out[at : at + samples] = 0
            self._missed.append(payload)
            self._counters.skipped_ticks += ticks
        self._in_row += 1
        return samples

    def _catch_up(self) -> None:
        for payload in self._missed:
            self._decoder.decode(payload, self._scratch)
        self._missed.clear()
