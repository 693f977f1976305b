# SPDX-License-Identifier: MIT
"""Words in, captions out: partials that only grow, one final for each segment.

A segment closes at the first of these:

- the backend says that the speaker paused: its own endpoint, or the smoothed
  pause probability above 0.6 for two steps (`FinalReason.ENDPOINT`);
- a word ends a sentence and 0.6 s of audio bring no further one (`PUNCTUATION`);
- 1.1 s of audio bring no word (`SILENCE`);
- it grew long: at a punctuated word from 120 characters or 8 s on, before any word
  that would take it beyond 200 characters or 10 s (`LENGTH`);
- flush, end, or a lost connection.

Silence is measured on the audio the recogniser has heard, never on a clock: a slow
server therefore does not cut sentences. Where the session left quiet audio out, the
media times of the words show the pause.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, evolve, field, frozen

from .events import Final, FinalReason, Partial, TimedWord

__all__ = ["SegmentRules", "Transcript"]

SENTENCE_ENDS = (".", "?", "!", "…")
CLAUSE_ENDS = (*SENTENCE_ENDS, ",", ";", ":")
CLOSING_MARKS = "\"'”’»)]"

LETTER_S = 0.06
"""Rough seconds per letter, to estimate the end of a word that has none."""


@frozen(kw_only=True)
class SegmentRules:
    """When a segment closes."""

    pause_threshold: float = 0.6
    """Smoothed pause probability that ends a segment."""
    pause_steps: int = 2
    """Steps in a row above the threshold."""
    pause_warmup_steps: int = 12
    """First steps of a connection whose probabilities are noise."""
    pause_horizon_s: float = 2.0
    """Which horizon to read; the nearest one is taken."""
    silence_s: float = 1.1
    """Audio without a word that ends a segment, seconds."""
    punctuation_s: float = 0.6
    """The same after the end of a sentence, seconds."""
    soft_chars: int = 120
    """From this length on, the next punctuated word ends a segment."""
    hard_chars: int = 200
    """No segment of several words is longer."""
    soft_s: float = 8.0
    """As `soft_chars`, seconds from the first word's start."""
    hard_s: float = 10.0
    """No word that starts later joins, seconds from the first word's start."""
    count_silence: bool = True
    """False where the backend decides itself when an utterance ends."""


@define(kw_only=True)
class _Segment:
    segment_id: int
    start: float
    text: str = field(repr=False)
    last_index: int
    last_start: float
    last_text: str = field(repr=False)
    heard: float
    words: list[TimedWord]
    last_end: float | None = None


class Transcript:
    """Folds the words of one speaker into segments.

    Two clocks come in, both in seconds: `start` and `end` of words are media time
    and only shown; `heard` is the recogniser's position in the sent stream and
    only measures silence.
    """

    def __init__(self, rules: SegmentRules | None = None) -> None:
        self.rules = rules or SegmentRules()
        """When segments close; may be replaced while none is open."""
        self._events: list[Partial | Final] = []
        self._segment: _Segment | None = None
        self._next_id = 0
        self._pause_seen = 0
        self._pause_score = 0.0
        self._pause_run = 0

    @property
    def is_open(self) -> bool:
        """Whether a segment has words that are not final yet."""
        return self._segment is not None

    # -- receive ---------------------------------------------------------------

    def receive_word(
        self, text: str, *, index: int, start: float, heard: float
    ) -> None:
        """Take the next word.

        Args:
            text: The word; white space is normalised, an empty one is ignored.
            index: Its number, for `receive_word_end`.
            start: Media seconds.
            heard: Position of the recogniser, seconds of the sent stream.
        """
        text = " ".join(text.split())
        if not text:
            return
        before = self._segment
        if before is not None and self._is_far(before, start):
            self.close(FinalReason.SILENCE)
        elif before is not None and self._would_overflow(before, text, start):
            self.close(FinalReason.LENGTH)
        self._pause_score = 0.0
        self._pause_run = 0
        segment = self._append(text, index=index, start=start, heard=heard)
        self._events.append(
            Partial(
                segment_id=segment.segment_id,
                text=segment.text,
                start=segment.start,
                words=tuple(segment.words),
            )
        )
        if self._is_ripe(segment) and _ends_with(text, CLAUSE_ENDS):
            self.close(FinalReason.LENGTH)

    def receive_word_end(self, *, index: int, end: float) -> None:
        """Note where a word ended (media seconds); late ones are ignored."""
        segment = self._segment
        if segment is not None and segment.last_index == index:
            segment.last_end = end = max(end, segment.last_start)
            segment.words[-1] = evolve(segment.words[-1], end=end)

    def receive_heard(self, heard: float) -> None:
        """Note how far the recogniser is; closes on silence.

        Args:
            heard: Seconds of the sent stream.
        """
        segment = self._segment
        if segment is None or not self.rules.count_silence:
            return
        quiet = heard - segment.heard
        sentence = _ends_with(segment.last_text, SENTENCE_ENDS)
        if sentence and quiet >= self.rules.punctuation_s:
            self.close(FinalReason.PUNCTUATION)
        elif quiet >= self.rules.silence_s:
            self.close(FinalReason.SILENCE)

    def receive_pause(
        self, probabilities: Sequence[float], horizons_s: Sequence[float]
    ) -> float | None:
        """Take one step's pause probabilities.

        Args:
            probabilities: 0 to 1, one for each horizon.
            horizons_s: Seconds ahead, same length.

        Returns:
            The smoothed probability, if it ended the segment.
        """
        pairs = list(zip(probabilities, horizons_s, strict=False))
        if not pairs:
            return None
        if min(probabilities) >= 1.0 and self._segment is not None:
            # No head is ever so sure: the server itself decided on an end.
            self.close(FinalReason.ENDPOINT)
            return 1.0
        wanted = self.rules.pause_horizon_s
        probability, _ = min(pairs, key=lambda pair: abs(pair[1] - wanted))
        self._pause_seen += 1
        self._pause_score = 0.5 * (self._pause_score + probability)
        above = self._pause_score > self.rules.pause_threshold
        self._pause_run = self._pause_run + 1 if above else 0
        ripe = self._pause_seen > self.rules.pause_warmup_steps
        if self._segment is None or not ripe:
            return None
        if self._pause_run < self.rules.pause_steps:
            return None
        self.close(FinalReason.ENDPOINT)
        return self._pause_score

    # -- act -------------------------------------------------------------------

    def close(self, reason: FinalReason) -> None:
        """Make the open segment final; does nothing when none is open."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        end = _end(segment)
        self._events.append(
            Final(
                segment_id=segment.segment_id,
                text=segment.text,
                start=segment.start,
                end=end,
                reason=reason,
                words=tuple(segment.words),
            )
        )

    def begin_epoch(self) -> None:
        """Forget the recogniser's clock: a new connection or reset follows.

        The caller has closed the open segment; positions of two epochs cannot be
        compared.
        """
        if self._segment is not None:
            raise AssertionError("close the segment before a new epoch begins")
        self._pause_seen = 0
        self._pause_score = 0.0
        self._pause_run = 0

    # -- collect ---------------------------------------------------------------

    def events(self) -> list[Partial | Final]:
        """Take what came up since the last call."""
        events, self._events = self._events, []
        return events

    def _append(self, text: str, *, index: int, start: float, heard: float) -> _Segment:
        segment = self._segment
        if segment is None:
            segment = self._segment = _Segment(
                segment_id=self._next_id,
                start=start,
                text=text,
                last_index=index,
                last_start=start,
                last_text=text,
                heard=heard,
                words=[TimedWord(text=text, start=start)],
            )
            self._next_id += 1
            return segment
        segment.text = f"{segment.text} {text}"
        segment.last_index = index
        # A recogniser may date a word before its forerunner by a step.
        segment.last_start = max(start, segment.last_start)
        segment.last_text = text
        segment.words.append(TimedWord(text=text, start=segment.last_start))
        segment.last_end = None
        segment.heard = heard
        return segment

    def _is_far(self, segment: _Segment, start: float) -> bool:
        """Whether a pause lies between: quiet audio may have been left out."""
        pause = start - _end(segment) >= self.rules.silence_s
        return pause and self.rules.count_silence

    def _would_overflow(self, segment: _Segment, text: str, start: float) -> bool:
        longer = len(segment.text) + 1 + len(text)
        late = start - segment.start > self.rules.hard_s
        return longer > self.rules.hard_chars or late

    def _is_ripe(self, segment: _Segment) -> bool:
        lasting = segment.last_start - segment.start
        long = len(segment.text) >= self.rules.soft_chars
        return long or lasting >= self.rules.soft_s


def _end(segment: _Segment) -> float:
    """End of the last word, estimated where it is not known."""
    if segment.last_end is not None:
        return segment.last_end
    return segment.last_start + LETTER_S * len(segment.last_text)


def _ends_with(text: str, marks: tuple[str, ...]) -> bool:
    return text.rstrip(CLOSING_MARKS).endswith(marks)
