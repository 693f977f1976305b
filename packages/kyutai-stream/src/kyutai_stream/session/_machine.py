# SPDX-License-Identifier: MIT
"""The session's decisions: no await, no clock; the shell in `_shell.py` drives it.

Audio comes in by `admit`. While a connection is ready, `next_action` says what to do
with it; `receive` takes what it answers. `lost` and `left` end a connection, and
`connect_due` says when the next one is to be opened. Whatever the reader should see
is collected by `events`.

What is sent is the feeder's part, what is heard the hearing's, what one connection
owes the link's, which audio is kept the keeper's, the time without connection the
absence's; here they are brought together.
"""

from __future__ import annotations

import math
from typing import assert_never

import numpy as np
import numpy.typing as npt

from .. import backend as contract
from ..core import FRAME_S, SAMPLE_RATE
from ..errors import CapacityError
from ..events import FinalReason, SessionEvent, SessionState, StateChanged, Usage
from ._absence import Absence
from ._actions import Action, AskFlush, AskKeepalive, Fail, Leave, Leaving, Send, Wait
from ._feeder import Feeder
from ._hearing import Hearing
from ._keeper import Keeper
from ._link import Link
from ._restarts import Restarts
from .metrics import Meter, SessionMetrics
from .options import SessionOptions

Samples = npt.NDArray[np.float32]

NEVER = math.inf

BETWEEN_WORDS_S = 0.16
"""So long a quiet is not within a word; stop consonants have about 0.1 s."""


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
        self._link: Link | None = None
        self._state: StateChanged | None = None
        self._next_media = 0.0
        self._playout = -math.inf
        self._last_loud = now
        self._loud_until = 0.0
        self._fulfilled: list[int] = []

    # -- the caller's side -----------------------------------------------------------

    def admit(
        self, samples: Samples, media_time: float | None, lag_s: float, now: float
    ) -> None:
        """Take audio.

        Args:
            samples: Mono PCM, float32, shape `(n,)`, 24 000 Hz; copied.
            media_time: Media seconds of the pushed chunk; None continues.
            lag_s: Seconds by which the resampler was behind at its begin.
            now: Monotonic seconds.
        """
        start = self._next_media
        if media_time is not None:
            start = max(start, media_time - lag_s)
        if not self._feeder.ring.end:
            self._keeper.begin(start)
        duration_s = len(samples) / SAMPLE_RATE
        self._next_media = start + duration_s
        self._playout = max(self._playout, now) + duration_s
        self._meter.pushed_s += duration_s
        loud = self._feeder.ring.append(samples, start, now)
        self._meter.arrivals.admitted(self._next_media, now)
        if loud:
            self._last_loud = now
            self._loud_until = self._next_media
            self._absence.is_idle = False
            if self._meter.first_loud_at is None:
                self._meter.first_loud_at = now
        elif self._absence.is_idle:
            self._keeper.keep_quiet(self._options.pre_roll_s)

    def has_room(self, duration_s: float) -> bool:
        """Whether so much audio may be pushed; anything fits into an empty buffer."""
        waiting_s = self._feeder.ring.waiting_s
        return waiting_s <= 0 or waiting_s + duration_s <= self._options.input_buffer_s

    def make_room(self, duration_s: float) -> bool:
        """Give up the oldest waiting audio if there is too much, with a gap.

        Returns:
            Whether there was room without that.
        """
        return self._keeper.make_room(duration_s, cold=self._absence.is_cold)

    def request_flush(self) -> int:
        """Ask for the words of all audio so far; `fulfilled` names it when done."""
        return self._feeder.mark()

    def end_input(self, now: float) -> None:
        """Note that no audio follows."""
        if not self._absence.is_over:
            self._absence.ended(now)
            self._feeder.mark()

    def fulfilled(self) -> list[int]:
        """Take the ids of flushes whose words are out."""
        done, self._fulfilled = self._fulfilled, []
        return done

    def align(self, lag_s: float) -> None:
        """Note how far the resampler may be behind, seconds."""
        # In steps of 10 ms, as the windows of recognisers: what they hear stays the
        # same.
        self._feeder.lead_samples = math.ceil(lag_s * 100) * SAMPLE_RATE // 100

    @property
    def is_ready(self) -> bool:
        """Whether the connection may be sent audio."""
        return self._link is not None

    @property
    def is_busy(self) -> bool:
        """Whether news of the connection may let something go on.

        Else it is not worth waking the feeder for each of the recogniser's steps.
        """
        feeder, link = self._feeder, self._link
        if link is None or link.is_resetting or link.is_draining:
            return True
        if feeder.next_out is not None or feeder.has_marks or feeder.frame_is_complete:
            return True
        return self._absence.is_over

    @property
    def has_work(self) -> bool:
        """Whether admitted audio could now make a frame: worth waking somebody."""
        return self._feeder.frame_is_complete

    # -- between connections -----------------------------------------------------------

    def connect_due(self, now: float) -> float | None:
        """Say when to open a connection.

        Returns:
            Monotonic seconds, infinite while nobody speaks; None when all is done
            or the input has ended and too much time has passed.
        """
        feeder, absence = self._feeder, self._absence
        if absence.is_idle and feeder.has_marks:
            # Nothing but quiet waits.
            self._keeper.keep_quiet(0.0)
        if not feeder.ring.waiting:
            self._fulfil(None)
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

    def next_action(self, now: float) -> Action:
        """Say what to do next; call again after doing it."""
        link, feeder = self._link, self._feeder
        if link is None:
            return Wait(until=NEVER)
        failure = link.failure(now)
        if now >= self._absence.end_due:
            failure = "the last words did not come in time"
        if failure is not None:
            return Fail(reason=failure)
        if link.must_leave(now):
            return Leave(why=Leaving.DRAINING)
        if link.is_resetting:
            return Wait(until=link.due)
        if feeder.next_out is None:
            action = self._restarts.next_action(link, feeder, self._hearing, now)
            if action is not None:
                return action
            if now >= self._idle_due and self._may_leave(link):
                return Leave(why=Leaving.IDLE)
            self._pull(link, now)
        return self._put_out(link, now) or self._rest(link, now)

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
            self._link.alive(now)

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

    # -- what to do --------------------------------------------------------------------

    def _pull(self, link: Link, now: float) -> None:
        """Get the next frames or a question out of the feeder."""
        feeder = self._feeder
        self._keeper.drop_late(now)
        if not feeder.touched:
            # Flushed already, or a flush is on its way that says the same.
            feeder.join_flush() if link.awaits_flush else self._fulfil(None)
        if feeder.pull():
            self._restarts.loud(feeder.take_loud())
        elif feeder.unflushed and now >= self._stall_due:
            feeder.flush()

    def _put_out(self, link: Link, now: float) -> Action | None:
        """Hand out what lies ready, if the window lets it."""
        out = self._feeder.next_out
        if isinstance(out, Send):
            at = link.send_at(now)
            if at > now:
                return Wait(until=min(at, link.due, self.end_due))
        elif isinstance(out, AskFlush):
            link.asked_flush(out.token, now)
        if out is not None:
            self._feeder.pop()
        return out

    def _rest(self, link: Link, now: float) -> Action:
        """Nothing to send: what else may be due."""
        if self._absence.is_over and not self._feeder.has_marks:
            return Leave(why=Leaving.FINISHED)
        due = min(link.due, self.end_due, link.keepalive_due)
        if self._feeder.unflushed:
            due = min(due, self._stall_due)
        elif self._may_leave(link):
            due = min(due, self._idle_due)
        if now >= link.keepalive_due:
            return AskKeepalive()
        return Wait(until=due)

    def _may_leave(self, link: Link) -> bool:
        """Whether nothing would be lost by giving the place back."""
        feeder = self._feeder
        # After a cold start longer than the patience, speech may still wait.
        sound = feeder.ring.quiet_run() < feeder.ring.waiting
        owed = feeder.unflushed or feeder.has_marks or link.owes
        return not (sound or owed or self._hearing.is_open)

    @property
    def _stall_due(self) -> float:
        options = self._options
        # The silence of a flush must not come into the middle of a word: a network
        # that stalls goes on where it stopped, and so does whoever mutes.
        quiet_s = self._next_media - self._loud_until
        stall_s = (
            options.stall_s if quiet_s >= BETWEEN_WORDS_S else options.stall_loud_s
        )
        return self._playout + stall_s

    @property
    def _idle_due(self) -> float:
        idle_s = self._options.idle_release_s
        if idle_s is None or self._absence.is_over:
            return NEVER
        return self._last_loud + idle_s

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
                link.alive(now)
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
        took_s = link.flushed(token, now)
        if took_s is None:
            return
        self._meter.finalization.add(took_s)
        self._hearing.close(FinalReason.FLUSH, now)
        if not self._feeder.touched and not link.awaits_flush:
            self._keeper.all_out()
        self._fulfil(token)

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

    def _fulfil(self, token: int | None) -> None:
        self._fulfilled += self._feeder.confirm(token)

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
