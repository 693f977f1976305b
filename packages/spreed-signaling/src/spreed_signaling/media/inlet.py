# SPDX-License-Identifier: MIT
"""Drives one speaker's receiver: packets from the transport, and the timer.

Runs inside aiortc's datagram loop, so nothing here waits and nothing raises.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from .audio import AudioChunk
from .receiver import AudioPacket, AudioReceiver

__all__ = ["Inlet"]

_log = logging.getLogger("spreed_signaling.media")

_SLACK_S = 0.001
"""A timer that rings this much too late is not set anew."""

_GRID_S = 0.020
"""Pauses of all speakers are noticed at the same moments: one wake-up for all."""


class Inlet:
    """What one peer connection brings.

    Args:
        receiver: The speaker's; it outlives the connection.
        on_media: Called with the time of every packet.
    """

    def __init__(
        self, receiver: AudioReceiver, on_media: Callable[[float], None]
    ) -> None:
        self._receiver = receiver
        self._on_media = on_media
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = self._is_decoded = False
        self._has_failed = False

    def take(self, packet: AudioPacket) -> None:
        """Take a packet; never raises."""
        if self._closed or self._is_decoded:
            return
        now = self._loop.time()
        try:
            self._on_media(now)
            self._receiver.receive(packet, now)
            if self._timer is None or self._receiver.has_hole:
                self._arm(now)
        except Exception:
            # An exception would make aiortc close the whole transport.
            self._failed()

    def refuse(self) -> None:
        """A datagram was dropped before it was a packet."""
        self._receiver.refuse()

    def add(self, chunk: AudioChunk) -> None:
        """Take audio that was decoded elsewhere; from then on, no packets."""
        self._is_decoded = True
        now = self._loop.time()
        self._on_media(now)
        self._receiver.add_decoded(chunk, now)
        self._arm(now)

    def close(self) -> None:
        """The connection is over: hand out the rest; idempotent."""
        if not self._closed:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._receiver.finish(self._loop.time())

    def _arm(self, now: float) -> None:
        due = self._receiver.deadline(now)
        if due is None:
            return
        if not self._receiver.has_hole:
            due = math.ceil(due / _GRID_S) * _GRID_S
        if self._timer is not None:
            # Later is fine: it looks again when it rings.
            if self._timer.when() <= due + _SLACK_S:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        try:
            self._receiver.tick(now)
            self._arm(now)
        except Exception:
            self._failed()

    def _failed(self) -> None:
        """A mistake of ours: told once, because packets come fifty times a second."""
        if not self._has_failed:
            self._has_failed = True
            _log.exception("receiving audio failed; told once")
