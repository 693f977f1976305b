# SPDX-License-Identifier: MIT
"""The session's decisions: no await, no clock; the shell in `_shell.py` drives it.

Audio comes in by `intake`. While a connection is ready, `next_action` says what to do
with it; `receive` takes what it answers. `lost` and `left` end a connection, and
`connect_due` says when the next one is to be opened. Whatever the reader should see
is collected by `events`.

What is sent is the feeder's part, what is heard the hearing's, what to do next the
planner's, the counts of one connection the link's, which audio is kept the keeper's,
the time without connection the absence's; here they are brought together.
"""

from __future__ import annotations

import math
from typing import assert_never

from .. import backend as contract
from ..core import FRAME_S
from ..errors import CapacityError
from ..events import FinalReason, SessionEvent, SessionState, StateChanged, Usage
from ._absence import Absence
from ._actions import Action, Leaving, Wait
from ._feeder import Feeder
from ._hearing import Hearing
from ._intake import Intake
from ._keeper import Keeper
from ._link import Link
from ._planner import Planner
from ._restarts import Restarts
from .metrics import Meter, SessionMetrics
from .options import SessionOptions

NEVER = math.inf


class SessionMachine:
    """One speaker's stream over all connections.

    Args:
        backend_name: For events.
        options: Settings.
        language: What is spoken, or None.
        now: Monotonic seconds.
    """

    def __init__(
        self,
        backend_name: str,
        options: SessionOptions,
        language: str | None = None,
        now: float = 0.0,
    ) -> None:
        self._name = self._serving = backend_name
        self._options = options
        self._events: list[SessionEvent] = []
        emit = self._events.append
        self._meter = Meter()
        self._feeder = Feeder(options, self._meter)
        self._hearing = Hearing(options.segments, language, self._meter, emit)
        self._restarts = Restarts(options, self._meter, now)
        self._keeper = Keeper(
            options, self._feeder, self._hearing, self._restarts, self._meter, emit
        )
        self._absence = Absence(options, now)
        self.intake = Intake(
            options, self._feeder, self._keeper, self._absence, self._meter, now
        )
        """The caller's side."""
        self._planner = Planner(
            self._feeder,
            self._hearing,
            self._restarts,
            self._keeper,
            self._absence,
            self.intake,
        )
        self._link: Link | None = None
        self._state: StateChanged | None = None

    # -- between connections -----------------------------------------------------------

    def connect_due(self, now: float) -> float | None:
        """Say when to open a connection.

        Returns:
            Monotonic seconds, infinite while nobody speaks; None when all is done
            or the input has ended and too much time has passed.
        """
        feeder, absence = self._feeder, self._absence
        if absence.is_idle and feeder.marks:
            # Nothing but quiet waits.
            self._keeper.keep_quiet(0.0)
        if not feeder.ring.waiting:
            self.intake.confirm(None)
            if absence.is_over:
                return None
        return None if now >= absence.end_due else absence.connect_due

    @property
    def end_due(self) -> float:
        """When an ended session no longer waits for progress; infinite before."""
        return self._absence.end_due

    def connecting(self) -> None:
        """Note that a connection is being opened."""
        self._change(self._absence.state, self._absence.detail)

    def lost(self, error: Exception, spread: float, now: float) -> bool:
        """The connection ended or did not come about.

        Args:
            error: Why; its text goes into the state.
            spread: A random number, 0 to 1.
            now: Monotonic seconds.

        Returns:
            Whether to try again (when `connect_due` says).
        """
        link = self._link
        lasted_s = None if link is None else now - link.ready_at
        if link is None:
            self._meter.failed_attempts += 1
            self._meter.capacity_refusals += isinstance(error, CapacityError)
        else:
            self._meter.reconnects += 1
            if link.is_draining:
                self._absence.planned(now)
        self._close_link(now)
        if not self._absence.failed(error, lasted_s, spread, now):
            return False
        self._change(self._absence.state, self._absence.detail)
        return True

    def left(self, why: Leaving, now: float) -> None:
        """The connection was closed on purpose."""
        done = why in (Leaving.FINISHED, Leaving.IDLE)
        self._close_link(now, rewind=not done)
        self._absence.planned(now)
        if why is Leaving.IDLE:
            self._absence.went_idle()
            self._keeper.expect_cold_start()
            self._keeper.keep_quiet(self._options.pre_roll_s)
            self._change(SessionState.IDLE, "")

    def end(self, now: float, detail: str = "") -> None:
        """Close the books: last final, gaps, usage, closed."""
        self._close_link(now)
        self._keeper.close()
        self._events.append(self._usage(now))
        self._change(SessionState.CLOSED, detail)

    # -- on a connection ---------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether the connection may be sent audio."""
        return self._link is not None

    @property
    def is_busy(self) -> bool:
        """Whether news of the connection may let something go on.

        Else it is not worth waking the feeder for each of the recogniser's steps.
        """
        link = self._link
        return link is None or self._planner.is_busy(link)

    def next_action(self, now: float) -> Action:
        """Say what to do next; call again after doing it."""
        link = self._link
        if link is None:
            return Wait(until=NEVER)
        return self._planner.next_action(link, now)

    def sent(self, now: float) -> None:
        """Note that the frame of `Send` was sent."""
        self._meter.sent_s += FRAME_S
        link = self._link
        if link is None:
            return
        link.sent(now)
        self._note_news(now)
        if not link.capabilities.acks:
            self._hearing.heard(link.ledger.heard_s, now)
            self._keeper.settle(link)

    def kept_alive(self, now: float) -> None:
        """Note that `AskKeepalive` was done."""
        if self._link is not None:
            self._link.kept_alive(now)

    def excuse(self, now: float) -> None:
        """Note that nothing was read for a while because the reader was slow."""
        if self._link is not None:
            self._link.debts.alive(now)

    def receive(self, event: contract.ConnectionEvent, now: float) -> None:
        """Take one event of the connection.

        Args:
            event: What came; nothing is taken before `Ready`.
            now: Monotonic seconds.
        """
        if isinstance(event, contract.Ready):
            self._ready(event, now)
        elif self._link is not None:
            self._take(event, self._link, now)

    # -- collect -----------------------------------------------------------------------

    def events(self) -> list[SessionEvent]:
        """Take what the reader should see; empty when called again."""
        events = self._events[:]
        self._events.clear()
        return events

    def metrics(self, now: float) -> SessionMetrics:
        """Figures as of now."""
        in_flight = 0 if self._link is None else self._link.ledger.in_flight
        return self._meter.snapshot(
            self._usage(now),
            waiting_s=self._feeder.ring.waiting_s,
            lag_s=in_flight * FRAME_S,
        )

    # -- what came ---------------------------------------------------------------------

    def _ready(self, event: contract.Ready, now: float) -> None:
        self._link = Link(event.capabilities, self._options, now)
        self._serving = event.backend or self._name
        self._absence.ready(now)
        self._meter.connections += 1
        self._keeper.end_gap()
        self._begin_epoch(self._link, now)
        self._change(SessionState.READY, "")

    def _take(self, event: contract.ConnectionEvent, link: Link, now: float) -> None:
        feeder, hearing = self._feeder, self._hearing
        match event:
            case contract.Word():
                link.debts.alive(now)
                if hearing.word(event, feeder.map, link.ledger, now):
                    self._absence.news(now)
                    self._restarts.word(now)
                self._keeper.settle(link)
            case contract.WordEnd():
                hearing.word_end(event, feeder.map, link.ledger)
            case contract.Pause():
                hearing.pause(event, now)
            case contract.Voice():
                hearing.voice(event, feeder.map, link.ledger, now)
                self._keeper.settle(link)
            case contract.Progress():
                if link.progress(event.frames_processed, now):
                    self._note_news(now)
                    hearing.heard(link.ledger.heard_s, now)
                    self._keeper.settle(link)
            case contract.Flushed():
                self._flushed(event.token, link, now)
            case contract.WasReset():
                self._was_reset(link, now)
            case contract.Draining():
                link.draining(event.deadline_s, now)
                self._change(SessionState.DRAINING, "")
            case contract.Ready():
                pass
            case _:
                assert_never(event)

    def _flushed(self, token: int, link: Link, now: float) -> None:
        took_s = link.debts.flushed(token, now)
        if took_s is None:
            return
        self._meter.finalization.add(took_s)
        self._hearing.close(FinalReason.FLUSH, now)
        if not self._feeder.touched and not link.debts.awaits_flush:
            self._keeper.all_out()
        self.intake.confirm(token)

    def _was_reset(self, link: Link, now: float) -> None:
        self._hearing.close(FinalReason.FLUSH, now)
        self._keeper.rewind(link)
        link.was_reset(now)
        self._begin_epoch(link, now)

    # -- inside ------------------------------------------------------------------------

    def _begin_epoch(self, link: Link, now: float) -> None:
        self._feeder.begin(link.capabilities)
        self._hearing.begin(link.capabilities, self._feeder.ring.media_at_cursor())
        self._restarts.begin(now)

    def _close_link(self, now: float, *, rewind: bool = True) -> None:
        link = self._link
        if link is None:
            return
        self._meter.connected_s += now - link.ready_at
        self._meter.processed_s += link.processed_s
        self._hearing.close(FinalReason.DISCONNECT, now)
        if rewind:
            self._keeper.rewind(link)
        self._link = None

    def _note_news(self, now: float) -> None:
        if self._feeder.brings_news:
            self._absence.news(now)

    def _usage(self, now: float) -> Usage:
        link = self._link
        connected_s = 0.0 if link is None else now - link.ready_at
        processed_s = 0.0 if link is None else link.processed_s
        return self._meter.usage(
            connected_s=connected_s, processed_s=processed_s, gap_s=self._keeper.lost_s
        )

    def _change(self, state: SessionState, detail: str) -> None:
        change = StateChanged(state=state, backend=self._serving, detail=detail)
        if change != self._state:
            self._state = change
            self._events.append(change)
