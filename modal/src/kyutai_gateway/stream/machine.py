# SPDX-License-Identifier: MIT
"""One `/v1/stream`, protocol 1, without I/O: no await, no clock.

Messages of the client, events of the model and the time go in. Out come text
messages (`outbox`), things to do upstream (`next_action`) and in the end an
`Ending`. The shell only carries them.

**Flush.** The frame at hand is padded, silence as long as the model's delay and three
frames more follows, then upstream is asked to confirm. `eos` and the end of a drain
do the same. Each is bounded: audio that is owed steps gets them, or the stream ends.

**Reset.** On a drained pause only, as a wipe in mid-speech costs many seconds of text:
the stream is flushed first, and `Init` stands in line behind the silence.

What the model hears is told by `narrator.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen

from kyutai_stream import (
    AuthError,
    BackendUnavailable,
    Capabilities,
    CapacityError,
    ConfigError,
    KyutaiStreamError,
)
from kyutai_stream.backend import (
    Draining,
    Flushed,
    Pause,
    Progress,
    Ready,
    WasReset,
    Word,
    WordEnd,
)

from . import messages
from .audio import BadAudio, Intake
from .line import KEEPALIVE, Action, Line, Mark, MarkKind
from .messages import CLOSE_CODES, Code
from .narrator import Narrator
from .rules import StreamRules
from .timers import NEVER, Timers

__all__ = ["Ending", "StreamMachine"]

END_OF_STREAM = b"EOS"


@frozen(kw_only=True)
class Ending:
    """How a stream ended."""

    close: int | None
    """Code of the websocket close; None where the client has gone already."""
    reason: str
    """An error code, `end` after `eos`, `gone`, or `not_read`."""


class StreamMachine:
    """The state of one stream.

    Args:
        rules: Its numbers.
        model: Name of the model, for `ready`.
        capabilities: What the model is expected to be able to do.
        now: Seconds, when the stream was accepted.
        step_took: Called for each step with the seconds since its frame was sent.
    """

    def __init__(
        self,
        rules: StreamRules,
        *,
        model: str,
        capabilities: Capabilities,
        now: float,
        step_took: Callable[[float], None] | None = None,
    ) -> None:
        self._rules = rules
        self._model = model
        self.timers = Timers(rules, now)
        """What is due; whoever looks at `deadline` clears its `hurry`."""
        self._intake = Intake()
        self._line = Line(rules, capabilities)
        self._ready = self._finishing = False
        # Answers that wait for `ready`, which comes first.
        self._early: list[str] = []
        self.outbox: deque[str] = deque()
        """Messages for the client, in order."""
        self.ending: Ending | None = None
        """Set once, when the stream is over; the outbox is still to be sent."""
        self.narrator = Narrator(
            rules=rules,
            intake=self._intake,
            line=self._line,
            timers=self.timers,
            outbox=self.outbox,
            step_took=step_took,
        )
        self._handlers: dict[type, Any] = {
            Progress: self.narrator.progress,
            Pause: self.narrator.pause,
            Word: self.narrator.word,
            WordEnd: self.narrator.word_end,
            Flushed: self._flushed,
            WasReset: self._was_reset,
            Ready: self._begin,
            Draining: self._upstream_drains,
        }

    # -- what the shell asks -------------------------------------------------------

    @property
    def samples(self) -> int:
        """Samples received from the client."""
        return self._intake.samples

    @property
    def full(self) -> bool:
        """Whether the client should not be read for now."""
        rules, untold = self._rules, len(self.outbox) + len(self._early)
        waiting = len(self._line.queue)
        return waiting >= rules.queue_frames or untold >= rules.outbox_messages

    @property
    def has_work(self) -> bool:
        """Whether `next_action` may have something, but for a keepalive."""
        return bool(self._line.queue)

    @property
    def deadline(self) -> float:
        """When `tick` is due next, seconds."""
        retry_at = self._line.retry_at
        due = self.timers.deadline
        return due if retry_at is None else min(due, retry_at)

    def next_action(self, now: float) -> Action | None:
        """Take what is to be done upstream now; None for nothing."""
        if self.ending is not None or not self._ready:
            return None
        line, timers = self._line, self.timers
        action = line.next(now) if line.queue else None
        if action is None:
            if line.retry_at is not None:
                timers.hurry = True
            if now < timers.keepalive:
                return None
            action = KEEPALIVE
        timers.sent(now, owes=line.in_flight > 0)
        return action

    # -- the client ----------------------------------------------------------------

    def binary(self, data: bytes, now: float) -> None:
        """Take a binary message: audio, nothing (keepalive) or `EOS`."""
        if self.ending is not None or self._finishing:
            return
        self.timers.heard = now
        if not data:
            return
        if data == END_OF_STREAM:
            self._end_of_stream()
            return
        if len(data) > self._rules.max_message_bytes:
            self.fail("bad_audio", "the message is longer than 2 MiB", close=1009)
            return
        try:
            frames = self._intake.push(data)
        except BadAudio as exc:
            self.fail("bad_audio", str(exc))
            return
        for frame in frames:
            self._line.push(frame)
        if self._intake.loud:
            self._intake.loud = False
            self.timers.voiced = now

    def text(self, text: str, now: float) -> None:
        """Take a text message; what is no control is answered and forgotten."""
        if self.ending is not None or self._finishing:
            return
        control = messages.parse_control(text)
        if control is None:
            what = "not a control message: flush, reset or eos"
            self._say(messages.error("bad_control", what, retryable=True))
        elif control.kind == "eos":
            self._end_of_stream()
        else:
            self._mark(MarkKind(control.kind), control.id)

    def gone(self) -> None:
        """The client has closed or vanished."""
        if self.ending is None:
            self.outbox.clear()
            self.ending = Ending(close=None, reason="gone")

    def abandon(self) -> None:
        """The client does not read: end without telling it why."""
        self.outbox.clear()
        if self.ending is None or self.ending.close is not None:
            self.ending = Ending(close=1011, reason="not_read")

    # -- the model -----------------------------------------------------------------

    def event(self, event: object, now: float) -> None:
        """Take an event of the connection upstream."""
        self.events((event,), now)

    def events(self, events: Iterable[object], now: float) -> None:
        """Take events of the connection upstream, until the stream ends."""
        for event in events:
            handler = self._handlers.get(type(event))
            if handler is not None and self.ending is None:
                handler(event, now)

    def upstream_failed(self, error: KyutaiStreamError | None) -> None:
        """The connection could not be made or was lost; None: it just ended."""
        match error:
            case CapacityError():
                self.fail("capacity", "the model server has no free place")
            case AuthError() | ConfigError() | BackendUnavailable():
                what = "the gateway cannot use its model server"
                self.fail("internal", what, retryable=False)
            case _:
                self.fail("upstream_lost", "the model server was lost")

    # -- both ----------------------------------------------------------------------

    def fail(
        self,
        code: Code,
        message: str,
        *,
        close: int | None = None,
        retryable: bool | None = None,
    ) -> None:
        """End the stream with an error.

        Args:
            code: Which kind.
            message: For people; a constant text.
            close: Code of the close, where it is not the usual one.
            retryable: Whether the same may work later; by default all but bad audio.
        """
        if self.ending is not None:
            return
        if retryable is None:
            retryable = code != "bad_audio"
        self.narrator.settle()
        self.outbox.append(messages.error(code, message, retryable=retryable))
        self.ending = Ending(close=close or CLOSE_CODES[code], reason=code)

    def drain(self, deadline_s: float, now: float) -> None:
        """Announce the end of the stream and prepare it.

        Args:
            deadline_s: Seconds until the gateway closes at the latest.
            now: Seconds.
        """
        close = now + deadline_s
        if self.ending is not None or close >= self.timers.close:
            return
        self.timers.rotate = NEVER
        self.timers.close = close
        self.outbox.append(messages.draining(max(0.0, deadline_s)))
        if not self._ready:
            self._drained()
        elif not self._finishing:
            reserve = min(self._rules.flush_s, deadline_s / 2)
            self.timers.last_flush = close - reserve

    def tick(self, now: float, *, blocked: bool = False) -> None:
        """Do what is due.

        Args:
            now: Seconds.
            blocked: Whether a message is stuck on its way to the client; then nothing
                is read from upstream, which says nothing about the model.
        """
        if self.ending is not None:
            return
        timers = self.timers
        if now >= timers.vad:
            self.narrator.tell_pause()
        if now >= timers.ping:
            timers.ping = now + self._rules.ping_s
            self.outbox.append(messages.PING)
        if now >= timers.rotate:
            self.drain(self._rules.rotation_notice_s, now)
        if now >= timers.close:
            self._drained()
        elif now >= timers.last_flush:
            timers.last_flush = NEVER
            self._finish(MarkKind.DRAINED)
        self._check_client(now)
        if now >= timers.wedged:
            self._check_model(now, blocked)

    # -- inside: the client --------------------------------------------------------

    def _say(self, text: str) -> None:
        (self.outbox if self._ready else self._early).append(text)

    def _mark(self, kind: MarkKind, number: int | None = None) -> None:
        padded = self._intake.pad()
        if padded is not None:
            self._line.push(*padded)
        self._line.mark(Mark(kind=kind, id=number))

    def _end_of_stream(self) -> None:
        if self._intake.split:
            what = "the stream ends within a sample"
            self._say(messages.error("bad_audio", what, retryable=False))
        self._finish(MarkKind.EOS)

    def _finish(self, kind: MarkKind) -> None:
        """Take no more audio, bring the last words out."""
        if not self._finishing:
            self._finishing = True
            self.timers.finishing()
            self._mark(kind)

    def _drained(self) -> None:
        self.fail("draining", "the gateway is going away")

    def _check_client(self, now: float) -> None:
        timers = self.timers
        if self.full:
            # What it says is not read at the moment.
            timers.heard = now
            timers.voiced = now
        if now >= timers.idle:
            self.fail("idle_timeout", "no audio and no keepalive for too long")
        elif now >= timers.quiet:
            self.fail("idle_timeout", "no speech for too long")

    def _check_model(self, now: float, blocked: bool) -> None:
        if blocked:
            self.timers.owed(now, True)
        elif self.timers.looks_dead(now):
            self.fail("upstream_wedged", "the model server has stopped working")

    # -- inside: the model ---------------------------------------------------------

    def _begin(self, event: Ready, now: float) -> None:
        able = event.capabilities
        self._ready = True
        self.narrator.begin(able)
        self._line.connected(able)
        self.timers.ready(now, able.keepalive_interval_s)
        self.outbox.append(messages.ready(self._model, able))
        self.outbox.extend(self._early)
        self._early.clear()

    def _flushed(self, event: Flushed, now: float) -> None:
        self.narrator.settle()
        for mark in self._line.flushed(event.token):
            match mark.kind:
                case MarkKind.FLUSH:
                    text = messages.flushed(mark.id, self._line.epoch)
                    self.outbox.append(text)
                case MarkKind.EOS:
                    self.outbox.append(messages.END)
                    self.ending = Ending(close=1000, reason="end")
                    return
                case _:
                    self._drained()
                    return

    def _was_reset(self, event: WasReset, now: float) -> None:
        self.narrator.settle()
        if not self._line.expects_reset:
            self.upstream_failed(None)
            return
        number = self._line.was_reset()
        self.narrator.begin_epoch()
        self.timers.owed(now, self._line.in_flight > 0)
        self.outbox.append(messages.was_reset(number, self._line.epoch))

    def _upstream_drains(self, event: Draining, now: float) -> None:
        self.drain(event.deadline_s, now)
