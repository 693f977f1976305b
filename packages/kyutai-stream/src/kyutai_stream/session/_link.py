# SPDX-License-Identifier: MIT
"""One ready connection, as the session machine sees it: what is owed and by when."""

from __future__ import annotations

import math

from ..backend import Capabilities
from ..core import FRAME_S, Ledger, SendWindow
from .options import SessionOptions

DRAIN_MARGIN_S = 4.0
"""Left before a draining server's deadline, at most 0.6 of the time there is: servers
take no more audio for some seconds before they close."""


class Link:
    """Counts and deadlines of one connection, from its `Ready` on.

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
        self._flushes: dict[int, float] = {}
        self._reset_due: float | None = None
        self._drain_at: float | None = None
        self._last_progress = now
        self._last_sent = now
        self.ready_at = now
        """When it became ready, monotonic seconds."""
        self.ledger, self._window = self._new_epoch()
        self._processed_before_s = 0.0

    def _new_epoch(self) -> tuple[Ledger, SendWindow]:
        capabilities, options = self.capabilities, self._options
        ledger = Ledger(acks=capabilities.acks, delay_s=capabilities.nominal_delay_s)
        window = SendWindow(
            acks=capabilities.acks,
            window=options.send_window,
            speed=options.catch_up_speed,
        )
        return ledger, window

    def was_reset(self, now: float) -> None:
        """Note the confirmation of a reset: counts begin anew."""
        self._processed_before_s = self.processed_s
        self.ledger, self._window = self._new_epoch()
        self._flushes.clear()
        self._reset_due = None
        self._last_progress = now

    # -- what was done -----------------------------------------------------------------

    def sent(self, now: float) -> None:
        """Note that a frame was sent."""
        if not (self.ledger.in_flight and self.capabilities.acks):
            self._last_progress = now
        self.ledger.sent()
        self._window.sent()
        self._last_sent = now

    def kept_alive(self, now: float) -> None:
        """Note that a keepalive was sent."""
        self._last_sent = now

    def asked_flush(self, token: int, now: float) -> None:
        """Note that a flush was asked for."""
        self._flushes[token] = now

    def asked_reset(self, now: float) -> None:
        """Note that a reset was asked for."""
        self._reset_due = now + self._options.send_timeout_s

    # -- what came ---------------------------------------------------------------------

    def progress(self, frames: int, now: float) -> bool:
        """Note a report; returns whether it brought news."""
        if not self.ledger.processed(frames):
            return False
        self._last_progress = now
        return True

    def flushed(self, token: int, now: float) -> float | None:
        """Note the confirmation of a flush.

        Returns:
            Seconds it took; None if nobody asked for it on this connection.
        """
        asked = self._flushes.pop(token, None)
        if asked is None:
            return None
        self._last_progress = now
        return now - asked

    def alive(self, now: float) -> None:
        """Note that it works, or that nobody could know."""
        self._last_progress = now

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

    @property
    def is_resetting(self) -> bool:
        """Whether a reset was asked for and not confirmed: nothing may be sent."""
        return self._reset_due is not None

    @property
    def owes(self) -> bool:
        """Whether an acknowledgement or a flush is outstanding."""
        return bool(self._flushes or self.ledger.in_flight)

    @property
    def awaits_flush(self) -> bool:
        """Whether a flush is outstanding."""
        return bool(self._flushes)

    def send_at(self, now: float) -> float:
        """When the next frame may be sent; infinite before an acknowledgement."""
        wait_s = self._window.wait_s(self.ledger.in_flight, now)
        return math.inf if wait_s is None else now + wait_s

    def failure(self, now: float) -> str | None:
        """Why the connection cannot go on; None if it can."""
        if self._reset_due is not None:
            late = now >= self._reset_due
            return "the recogniser did not confirm a reset" if late else None
        if now < self._owed_by:
            return None
        if self.ledger.in_flight:
            timeout_s = self._options.progress_timeout_s
            return f"the recogniser acknowledged nothing for {timeout_s:g} s"
        return "the recogniser did not confirm a flush"

    def must_leave(self, now: float) -> bool:
        """Whether a draining server's time is up."""
        return self._drain_at is not None and now >= self._drain_at

    @property
    def due(self) -> float:
        """When `failure` or `must_leave` will be true if nothing happens."""
        drain = math.inf if self._drain_at is None else self._drain_at
        # During a reset nothing else is asked: what is owed came before it.
        owed = self._owed_by if self._reset_due is None else self._reset_due
        return min(owed, drain)

    @property
    def keepalive_due(self) -> float:
        """When a keepalive is due if nothing is sent."""
        interval_s = self.capabilities.keepalive_interval_s
        return math.inf if interval_s is None else self._last_sent + interval_s

    @property
    def _owed_by(self) -> float:
        if self.ledger.in_flight:
            return self._last_progress + self._options.progress_timeout_s
        if self._flushes:
            asked = max(next(iter(self._flushes.values())), self._last_progress)
            return asked + self._options.send_timeout_s
        return math.inf
