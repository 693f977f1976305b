# SPDX-License-Identifier: MIT
"""What is counted of one speaker's packets."""

from __future__ import annotations

from attrs import define, frozen

from .rtp.reorder import ReorderStats

__all__ = ["Counters", "ReceiverStats"]


@frozen(kw_only=True)
class ReceiverStats:
    """Counters of one speaker's packets, across peer connections."""

    packets: ReorderStats
    """Received, lost, late, duplicate, reordered."""
    recovered: int
    """Lost packets recovered from the one after them (in-band FEC)."""
    recovered_s: float
    """Seconds recovered."""
    concealed_s: float
    """Seconds guessed from what was heard before."""
    skipped_s: float
    """Seconds of stated silence that were not decoded."""
    errors: int
    """Payloads that are no valid Opus."""
    foreign: int
    """Packets of another payload type; dropped."""
    refused: int
    """Datagrams that were no valid packet of this connection; dropped."""
    jitter_s: float
    """Mean deviation of the packets' spacing, seconds (RFC 3550)."""
    drift_ppm: float | None
    """How much slower the sender's clock is than ours; None if not known yet."""


@define
class Counters:
    """What a receiver counts, ticks of 1/48000 s."""

    recovered: int = 0
    recovered_ticks: int = 0
    concealed_ticks: int = 0
    skipped_ticks: int = 0
    errors: int = 0
    foreign: int = 0
    refused: int = 0
