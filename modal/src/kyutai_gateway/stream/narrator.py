# SPDX-License-Identifier: MIT
"""What the model hears, told to the client: words, pauses, how far the model is.

**Order.** A step's probabilities are an event of their own, right behind it; they go
into its `ack`. Its words follow. A pause is told when they have had the time to come:
a word in that time means that the pause has not begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kyutai_stream import Capabilities
from kyutai_stream.backend import Pause, Progress, Word, WordEnd
from kyutai_stream.core import SAMPLE_RATE

from . import messages
from .audio import Intake
from .line import Line
from .pauses import PauseRule
from .rules import StreamRules
from .timers import NEVER, Timers

__all__ = ["Narrator"]


class Narrator:
    """Turns events of the model into messages.

    Args:
        rules: How long a pause waits for words.
        intake: What has come from the client.
        line: What the model has done of it.
        timers: Told of words, steps and pauses.
        outbox: Takes the messages.
        step_took: Called for each step with the seconds since its frame was sent.
    """

    def __init__(
        self,
        *,
        rules: StreamRules,
        intake: Intake,
        line: Line,
        timers: Timers,
        outbox: deque[str],
        step_took: Callable[[float], None] | None = None,
    ) -> None:
        self._rules = rules
        self._intake = intake
        self._line = line
        self._timers = timers
        self._outbox = outbox
        self._step_took = step_took
        self._pauses = PauseRule()
        self._paused_at = 0.0
        self._acks = False
        self._horizons = False
        self._ack_due = False
        self.words = 0
        """Words told so far."""

    def begin(self, able: Capabilities) -> None:
        """Note what the connected model tells."""
        self._acks = able.acks
        self._horizons = bool(able.pause_horizons_s)

    def begin_epoch(self) -> None:
        """The model has forgotten what it heard."""
        self._pauses = PauseRule()

    # -- events --------------------------------------------------------------------

    def progress(self, event: Progress, now: float) -> None:
        """Take a step."""
        self.settle()
        line = self._line
        sent_at = line.step(event.frames_processed)
        if sent_at is not None and self._step_took is not None:
            self._step_took(now - sent_at)
        self._timers.owed(now, line.in_flight > 0)
        if self._horizons:
            # Its probabilities come next.
            self._ack_due = self._acks
        elif self._acks:
            self._tell_ack(())

    def pause(self, event: Pause, now: float) -> None:
        """Take a step's probabilities."""
        if self._ack_due:
            self._tell_ack(event.probabilities)
        if self._pauses.step(event.probabilities):
            self._paused_at = self._line.samples / SAMPLE_RATE
            self._timers.pause(now + self._rules.words_follow_s)

    def word(self, event: Word, now: float) -> None:
        """Take a word."""
        if self._ack_due:
            self._tell_ack(())
        timers, line = self._timers, self._line
        # The pause that was about to be told has not begun yet.
        timers.vad = NEVER
        timers.voiced = now
        self._pauses.word()
        self.words += 1
        start = line.client_s(event.start)
        text = messages.token(line.epoch, event.index, event.text, start)
        self._outbox.append(text)

    def word_end(self, event: WordEnd, now: float) -> None:
        """Take the end of a word."""
        if self._ack_due:
            self._tell_ack(())
        line = self._line
        end = line.client_s(event.end)
        self._outbox.append(messages.word_end(line.epoch, event.index, end))

    # -- what had to wait ----------------------------------------------------------

    def settle(self) -> None:
        """Tell what waited for something that did not come."""
        if self._ack_due:
            self._tell_ack(())
        if self._timers.vad != NEVER:
            self.tell_pause()

    def tell_pause(self) -> None:
        """Tell the pause: its words have had time to come."""
        self._timers.vad = NEVER
        self._outbox.append(messages.vad_end(self._line.epoch, self._paused_at))

    def _tell_ack(self, probabilities: tuple[float, ...]) -> None:
        self._ack_due = False
        line = self._line
        lag = self._intake.samples - line.processed
        self._outbox.append(messages.ack(line.epoch, line.samples, lag, probabilities))
