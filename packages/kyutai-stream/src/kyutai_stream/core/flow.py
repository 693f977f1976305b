# SPDX-License-Identifier: MIT
"""Decide how fast frames may go out.

moshi-server never pushes back: it queues whatever comes. So the session limits
itself, by frames sent and not yet acknowledged, and by a rate that keeps one
speaker's backlog from taking a whole server.
"""

from __future__ import annotations

from .framing import FRAME_S

__all__ = ["SendWindow"]

BURST_FRAMES = 25.0
"""Frames that may follow one another without pause: a flush, a reconnect's replay."""


class SendWindow:
    """The right to send the next frame, per connection.

    Args:
        acks: Whether processed frames are reported.
        window: Most frames sent and not yet processed; only with `acks`.
        speed: Most times real time that a backlog is sent; None for no limit.
    """

    def __init__(self, *, acks: bool, window: int, speed: float | None) -> None:
        self._window = window if acks else None
        self._rate = None if speed is None else speed / FRAME_S
        self._tokens = BURST_FRAMES
        self._filled_at: float | None = None

    def wait_s(self, in_flight: int, now: float) -> float | None:
        """Say when the next frame may be sent.

        Args:
            in_flight: Frames sent and not yet processed.
            now: Monotonic seconds.

        Returns:
            Seconds to wait, 0 for at once; None to wait for an acknowledgement.
        """
        if self._window is not None and in_flight >= self._window:
            return None
        if self._rate is None:
            return 0.0
        self._fill(self._rate, now)
        if self._tokens >= 1.0:
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def sent(self) -> None:
        """Note that a frame was sent."""
        self._tokens -= 1.0

    def _fill(self, rate: float, now: float) -> None:
        since = 0.0 if self._filled_at is None else max(0.0, now - self._filled_at)
        self._filled_at = now
        self._tokens = min(BURST_FRAMES, self._tokens + since * rate)
