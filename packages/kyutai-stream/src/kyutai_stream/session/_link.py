# SPDX-License-Identifier: MIT
"""One ready connection, as the session machine sees it: its counts and its times."""

from __future__ import annotations

import math

from ..backend import Capabilities
from ..core import FRAME_S, Ledger, SendWindow
from ._debts import Debts
from .options import SessionOptions

DRAIN_MARGIN_S = 4.0
"""Left before a draining server's deadline, at most 0.6 of the time there is: servers
take no more audio for some seconds before they close."""


class Link:
    """Counts one connection's audio, from its `Ready` on; says when it may be sent.

    Args:
        capabilities: Of this connection.
        options: The session's.
        now: Monotonic seconds.
    """

    def __init__(
        self, capabilities: Capabilities, options: SessionOptions, now: float
    ) -> None:
        self.capabilities = capabilities
        self._options = options
        self._drain_at: float | None = None
        self._last_sent = now
        self.ready_at = now
        """When it became ready, monotonic seconds."""
        self._processed_before_s = 0.0
        self._begin_epoch(now)

    def _begin_epoch(self, now: float) -> None:
        capabilities, options = self.capabilities, self._options
        self.ledger = Ledger(
            acks=capabilities.acks, delay_s=capabilities.nominal_delay_s
        )
        """What was sent and processed since the begin or the last reset."""
        self._window = SendWindow(
            acks=capabilities.acks,
            window=options.send_window,
            speed=options.catch_up_speed,
        )
        self.debts = Debts(options, self.ledger, now)
        """What the recogniser has to answer."""

    # -- what happened -----------------------------------------------------------------

    def was_reset(self, now: float) -> None:
        """Note the confirmation of a reset: counts begin anew."""
        self._processed_before_s = self.processed_s
        self._begin_epoch(now)

    def sent(self, now: float) -> None:
        """Note that a frame was sent."""
        if not self.ledger.in_flight:
            # Nothing was owed until now.
            self.debts.alive(now)
        self.ledger.sent()
        self._window.sent()
        self._last_sent = now

    def kept_alive(self, now: float) -> None:
        """Note that a keepalive was sent."""
        self._last_sent = now

    def progress(self, frames: int, now: float) -> bool:
        """Note a report; returns whether it brought news."""
        if not self.ledger.processed(frames):
            return False
        self.debts.alive(now)
        return True

    def draining(self, deadline_s: float, now: float) -> None:
        """Note that the server will close it."""
        self._drain_at = now + deadline_s - min(DRAIN_MARGIN_S, 0.6 * deadline_s)

    # -- what is the case --------------------------------------------------------------

    @property
    def processed_s(self) -> float:
        """Seconds of audio reported as processed, resets included."""
        return self._processed_before_s + self.ledger.frames_processed * FRAME_S

    @property
    def is_draining(self) -> bool:
        """Whether the server announced its end."""
        return self._drain_at is not None

    def must_leave(self, now: float) -> bool:
        """Whether a draining server's time is up."""
        return self._drain_at is not None and now >= self._drain_at

    def send_at(self, now: float) -> float:
        """When the next frame may be sent; infinite before an acknowledgement."""
        wait_s = self._window.wait_s(self.ledger.in_flight, now)
        return math.inf if wait_s is None else now + wait_s

    @property
    def due(self) -> float:
        """When a debt is overdue or `must_leave` will be true, if nothing happens."""
        drain = math.inf if self._drain_at is None else self._drain_at
        return min(self.debts.due, drain)

    @property
    def keepalive_due(self) -> float:
        """When a keepalive is due if nothing is sent."""
        interval_s = self.capabilities.keepalive_interval_s
        return math.inf if interval_s is None else self._last_sent + interval_s
