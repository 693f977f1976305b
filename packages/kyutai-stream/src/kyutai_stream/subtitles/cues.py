# SPDX-License-Identifier: MIT
"""Divide what was said into cues that can be read.

Always true: at most two lines, lines within the width (a longer single word stands
alone), at most 7 s, a cue begins with its first word, cues are in order and do not
overlap, and their words are the words of the finals in the same order.

True wherever the pace of speech leaves room: at least 1 s, at most 20 characters a
second. Of all ways to divide the words that keep the rules above, one with the
fewest cues that break these two is chosen (a cue cannot stay beyond the beginning
of the next one). Among those, breaks prefer the ends of finals, then sentences,
then clauses, and cues of even length.

A final has no times for its words: they are spread over it by their length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from attrs import field, frozen, validators

from ..events import Final
from .lines import CLAUSE, SENTENCE, WORD, break_lines, break_rank

__all__ = ["Cue", "CueRules", "TimedWord", "make_cues", "timed_words"]

PER_CUE = 2.0
BROKEN_RULE = 1000.0
BREAK_COST = {SENTENCE: 1.0, CLAUSE: 3.0, WORD: 8.0}
FAST_COST = 5.0
JOINED_COST = 6.0
JOINED_COST_PER_S = 10.0


@frozen(kw_only=True)
class CueRules:
    """What makes a cue readable; the defaults are common broadcast practice."""

    line_chars: int = field(default=42, validator=validators.ge(1))
    """Most characters in a line."""
    lines: int = field(default=2, validator=validators.in_((1, 2)))
    """Most lines, 1 or 2."""
    least_s: float = field(default=1.0, validator=validators.ge(0.0))
    """A cue stays at least this long, seconds."""
    most_s: float = field(default=7.0, validator=validators.gt(0.0))
    """A cue stays at most this long, seconds."""
    good_chars_per_s: float = field(default=17.0, validator=validators.gt(0.0))
    """Reading speed that is aimed at."""
    most_chars_per_s: float = field(default=20.0, validator=validators.gt(0.0))
    """Highest reading speed."""


@frozen(kw_only=True)
class Cue:
    """A piece of text and when to show it."""

    start: float
    """Seconds, whole milliseconds."""
    end: float
    """Seconds, whole milliseconds; later than `start`."""
    lines: tuple[str, ...] = field(repr=False)
    """One or two lines."""

    @property
    def text(self) -> str:
        """The lines as one."""
        return " ".join(self.lines)


@frozen(kw_only=True)
class TimedWord:
    """A word and its estimated place."""

    text: str = field(repr=False)
    """The word."""
    start_ms: int
    """Estimated start; every word starts later than the one before."""
    end_ms: int
    """Estimated end."""
    closes: bool
    """Whether it is the last word of its final."""
    pause_s: float
    """Seconds from the end of its final to the next one; 0 for words within."""


def timed_words(
    finals: Iterable[Final], rules: CueRules | None = None
) -> list[TimedWord]:
    """Spread each final's words over its time, by their length.

    A final spoken faster than it can be read is spread into the pause after it.

    Args:
        finals: In order of time.
        rules: For the reading speed.

    Returns:
        All words, in order, with strictly rising starts.
    """
    rules = rules or CueRules()
    spoken = [final for final in finals if final.text.split()]
    words: list[TimedWord] = []
    earliest = 0
    for place, final in enumerate(spoken):
        texts = final.text.split()
        chars = sum(len(text) + 1 for text in texts)
        start = max(_ms(final.start), earliest)
        end = max(_ms(final.end), start + len(texts))
        said_at = end
        readable = start + math.ceil((chars - 1) / rules.good_chars_per_s * 1000)
        if place + 1 < len(spoken):
            following = max(_ms(spoken[place + 1].start), start + len(texts))
            end = min(max(end, readable), following)
            pause_s = max(0.0, (following - said_at) / 1000)
        else:
            end = max(end, readable)
            pause_s = 0.0
        words += _spread(texts, start, end, chars, pause_s)
        earliest = words[-1].start_ms + 1
    return words


def _spread(
    texts: Sequence[str], start: int, end: int, chars: int, pause_s: float
) -> list[TimedWord]:
    starts: list[int] = []
    before = 0
    for text in texts:
        at = start + (end - start) * before // chars
        starts.append(max(at, starts[-1] + 1) if starts else at)
        before += len(text) + 1
    ends = [*starts[1:], max(end, starts[-1] + 1)]
    last = len(texts) - 1
    return [
        TimedWord(
            text=text,
            start_ms=starts[n],
            end_ms=ends[n],
            closes=n == last,
            pause_s=pause_s if n == last else 0.0,
        )
        for n, text in enumerate(texts)
    ]


def make_cues(finals: Iterable[Final], rules: CueRules | None = None) -> list[Cue]:
    """Divide the text of one speaker into cues.

    Args:
        finals: In order of time.
        rules: What makes a cue readable.

    Returns:
        The cues, in order.
    """
    rules = rules or CueRules()
    words = timed_words(finals, rules)
    # Cheapest way to divide the first n words, and where its last cue begins.
    cost = [0.0] + [math.inf] * len(words)
    begins = [0] * (len(words) + 1)
    for first in range(len(words)):
        for after in _ends(words, first, rules):
            so_far = cost[first] + _cost(words, first, after, rules)
            if so_far < cost[after]:
                cost[after] = so_far
                begins[after] = first
    cues = []
    after = len(words)
    while after:
        first = begins[after]
        cues.append(_cue(words, first, after, rules))
        after = first
    return cues[::-1]


def _ends(words: Sequence[TimedWord], first: int, rules: CueRules) -> Iterable[int]:
    """Where a cue that begins with this word may end."""
    yield first + 1
    for after in range(first + 2, len(words) + 1):
        texts = [word.text for word in words[first:after]]
        said_ms = words[after - 1].end_ms - words[first].start_ms
        if break_lines(texts, rules.line_chars, rules.lines) is None:
            return
        if said_ms > rules.most_s * 1000:
            return
        yield after


def _cost(words: Sequence[TimedWord], first: int, after: int, rules: CueRules) -> float:
    chars = _chars(words, first, after)
    shown_s = (_end_ms(words, first, after, rules) - words[first].start_ms) / 1000
    speed = chars / shown_s
    cost = PER_CUE + 3.0 * (chars / (rules.line_chars * rules.lines)) ** 2
    cost += BROKEN_RULE * (shown_s < rules.least_s)
    cost += BROKEN_RULE * (speed > rules.most_chars_per_s)
    if rules.good_chars_per_s < speed <= rules.most_chars_per_s:
        room = rules.most_chars_per_s - rules.good_chars_per_s
        cost += FAST_COST * (speed - rules.good_chars_per_s) / room
    last = words[after - 1]
    if not last.closes:
        cost += BREAK_COST[break_rank(last.text)]
    for word in words[first : after - 1]:
        if word.closes:
            cost += JOINED_COST + JOINED_COST_PER_S * word.pause_s
    return cost


def _cue(words: Sequence[TimedWord], first: int, after: int, rules: CueRules) -> Cue:
    texts = [word.text for word in words[first:after]]
    lines = break_lines(texts, rules.line_chars, rules.lines)
    return Cue(
        start=words[first].start_ms / 1000,
        end=_end_ms(words, first, after, rules) / 1000,
        lines=lines or (texts[0],),
    )


def _end_ms(words: Sequence[TimedWord], first: int, after: int, rules: CueRules) -> int:
    start = words[first].start_ms
    readable = math.ceil(_chars(words, first, after) / rules.good_chars_per_s * 1000)
    wanted = max(
        words[after - 1].end_ms,
        start + math.ceil(rules.least_s * 1000),
        start + readable,
    )
    end = min(wanted, start + math.floor(rules.most_s * 1000))
    if after < len(words):
        end = min(end, words[after].start_ms)
    return max(end, start + 1)


def _chars(words: Sequence[TimedWord], first: int, after: int) -> int:
    return sum(len(word.text) + 1 for word in words[first:after]) - 1


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
