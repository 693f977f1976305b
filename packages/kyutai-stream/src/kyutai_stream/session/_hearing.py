# SPDX-License-Identifier: MIT
"""What comes back from the recogniser becomes words and segments for the reader."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import attrs

from .. import backend as contract
from ..core import (
    DeliveredWord,
    Join,
    LanguageGuard,
    Ledger,
    SpanKind,
    TimelineMap,
)
from ..events import (
    Endpoint,
    Final,
    FinalReason,
    LanguageMismatch,
    SessionEvent,
    SpeechStarted,
)
from ..transcript import SegmentRules, Transcript
from .metrics import Meter

PAUSED = (FinalReason.ENDPOINT, FinalReason.PUNCTUATION, FinalReason.SILENCE)

REMEMBERED = 200
"""Delivered words kept for the join: more than 30 s of the fastest speech."""

GUESSED_S = 1.5
"""How much too late a word may be dated by a backend that guesses."""

LETTER_S = 0.06
"""Rough seconds per letter, for the end of a word that has none yet."""


class Hearing:
    """Words of one speaker over all connections.

    Args:
        rules: When segments close.
        language: What is spoken, or None.
        meter: Counts.
        emit: Takes events for the reader.
    """

    def __init__(
        self,
        rules: SegmentRules,
        language: str | None,
        meter: Meter,
        emit: Callable[[SessionEvent], None],
    ) -> None:
        self._transcript = Transcript(rules)
        self._base_rules = rules
        self._language = language
        self._guard = LanguageGuard(language)
        self._meter = meter
        self._emit = emit
        self._join = Join(())
        self._delivered: deque[DeliveredWord] = deque(maxlen=REMEMBERED)
        self._last: tuple[int, float] | None = None
        """Index and emission time of the last word of this epoch."""
        self._speaking = False
        self._endpointing = False
        self.language_wrong = False
        """Whether the guard has spoken since the last epoch began."""

    @property
    def last_word_start(self) -> float:
        """Media seconds of the last delivered word; -inf before the first."""
        return self._delivered[-1].start if self._delivered else -math.inf

    @property
    def is_open(self) -> bool:
        """Whether a segment has words that are not final."""
        return self._transcript.is_open

    def begin(self, capabilities: contract.Capabilities, begins_at: float) -> None:
        """Begin a new epoch.

        Args:
            capabilities: Of the connection.
            begins_at: Media seconds of the first audio; before the end of what
                was heard already, if audio is sent again.
        """
        self._transcript.begin_epoch()
        self._endpointing = capabilities.endpointing
        rules = self._base_rules
        if capabilities.endpointing:
            rules = attrs.evolve(rules, count_silence=False)
        self._transcript.rules = rules
        self._speaking = False
        self._last = None
        self._guard.forget()
        self.language_wrong = False
        # A word that began just before may still be heard, dated late.
        early_s = 0.1 if capabilities.word_times else GUESSED_S
        again = [word for word in self._delivered if word.start > begins_at - early_s]
        self._join = Join(again, timed=capabilities.word_times)

    # -- receive -----------------------------------------------------------------------

    def word(
        self, event: contract.Word, timeline: TimelineMap, ledger: Ledger, now: float
    ) -> bool:
        """Take a word; False if the reader is not to see it."""
        ledger.word_out(event.start)
        if timeline.kind(event.start) is SpanKind.PRIME:
            return False
        start = timeline.word_start(event.start)
        dropped = self._join.dropped
        text, start = self._join.admit(event.text, start)
        self._meter.duplicates_dropped += self._join.dropped - dropped
        if not text.split():
            return False
        start = max(start, self.last_word_start)
        if not self._speaking:
            self._speaking = True
            self._emit(SpeechStarted(at=start))
        self._transcript.receive_word(
            text, index=event.index, start=start, heard=ledger.heard_s
        )
        self._remember(text, start)
        self._last = (event.index, now)
        self._meter.word_out(now)
        self._guard_language(text, start)
        self.collect(now)
        return True

    def word_end(
        self, event: contract.WordEnd, timeline: TimelineMap, ledger: Ledger
    ) -> None:
        """Take the end of a word."""
        ledger.word_out(event.end)
        if self._last is None or self._last[0] != event.index:
            return
        end = timeline.media_time(event.end)
        self._meter.word_ended(end, self._last[1])
        self._transcript.receive_word_end(index=event.index, end=end)

    def pause(self, event: contract.Pause, now: float) -> None:
        """Take one step's pause probabilities."""
        sure = self._transcript.receive_pause(event.probabilities, event.horizons_s)
        self.collect(now, probability=sure)

    def voice(
        self,
        event: contract.Voice,
        timeline: TimelineMap,
        ledger: Ledger,
        now: float,
    ) -> None:
        """Take the begin or end of speech, from a backend that knows it."""
        at = timeline.media_time(event.at)
        if event.active:
            at = timeline.word_start(event.at)
        ledger.voice(event.at if event.active else None)
        if event.active:
            if not self._speaking:
                self._emit(SpeechStarted(at=at))
            self._speaking = True
            return
        if self._speaking:
            self._emit(Endpoint(at=at))
        self._speaking = False
        self.close(FinalReason.ENDPOINT, now)

    def heard(self, heard_s: float, now: float) -> None:
        """Note how far the recogniser is in the sent stream."""
        self._transcript.receive_heard(heard_s)
        self.collect(now)

    def close(self, reason: FinalReason, now: float) -> None:
        """Make the open segment final."""
        self._transcript.close(reason)
        self.collect(now)

    def collect(self, now: float, probability: float | None = None) -> None:
        """Hand on what the transcript made of it."""
        for event in self._transcript.events():
            if isinstance(event, Final):
                self._meter.final_out(event.end, now)
                pause = event.reason in PAUSED and self._speaking
                if pause and not self._endpointing:
                    self._emit(Endpoint(at=event.end, probability=probability))
                if event.reason is not FinalReason.LENGTH:
                    self._speaking = False
            self._emit(event)

    # -- inside ------------------------------------------------------------------------

    def _remember(self, text: str, start: float) -> None:
        words = text.split()
        step = LETTER_S * (len(text) / len(words) + 1)
        for place, word in enumerate(words):
            self._delivered.append(DeliveredWord(text=word, start=start + place * step))

    def _guard_language(self, text: str, at: float) -> None:
        detected = self._guard.word(text)
        if detected is None or self._language is None:
            return
        self.language_wrong = True
        self._emit(LanguageMismatch(expected=self._language, detected=detected, at=at))
