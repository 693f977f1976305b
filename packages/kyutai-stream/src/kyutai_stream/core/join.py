# SPDX-License-Identifier: MIT
"""Leave out words that were already delivered when audio is heard a second time.

After a reconnect some audio is sent again, so that no word falls into the seam. The
recogniser then says words of that stretch again: at slightly other times, cut into
messages differently, in bad luck with another spelling. Delivered words are never
taken back, so the second version gives way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import field, frozen

__all__ = ["DeliveredWord", "Join"]

TIME_TOLERANCE_S = 0.5
"""How far apart two hearings of one word may be dated: each is up to 160 ms off, and
of several words in one message only the first one's time is known."""

SAME_PLACE_S = 0.24
"""An unknown word that begins less than this after the last delivered one is taken
for a second version of it: closer together people do not begin words."""

MISHEARD = 2
"""Without times: delivered words that may be missing in the second hearing before
the next one must be found."""

TOKEN_S = 0.35
"""Distance assumed between the begins of the words of one message."""

_MARKS = re.compile(r"[^\w']+")


@frozen(kw_only=True)
class DeliveredWord:
    """A word that the reader has."""

    text: str = field(repr=False)
    """One word, as delivered."""
    start: float
    """Media seconds."""


class Join:
    """Compares what is heard after a reconnect with what was delivered before.

    Args:
        delivered: The delivered words that may be heard again, in order.
        timed: Whether the times of words mean something; else their order alone
            decides.
    """

    def __init__(
        self, delivered: Sequence[DeliveredWord], *, timed: bool = True
    ) -> None:
        self._expected = [(_normal(word.text), word.start) for word in delivered]
        self._timed = timed
        self._met = False
        """Whether any of them was heard again."""
        self._next = 0
        self.dropped = 0
        """Words left out so far."""

    @property
    def is_done(self) -> bool:
        """Whether everything that follows is new."""
        return self._next >= len(self._expected)

    def admit(self, text: str, start: float) -> tuple[str, float]:
        """Take the words of one message.

        Args:
            text: Words, separated by white space.
            start: Media seconds of the first one.

        Returns:
            What of it is new (all, an end, or nothing of it), and when that begins.
        """
        words = text.split()
        for place, word in enumerate(words):
            at = start + place * TOKEN_S
            if self._is_new(word, at):
                return " ".join(words[place:]), at
            self.dropped += 1
        return "", start

    def _is_new(self, word: str, at: float) -> bool:
        if self.is_done:
            return True
        known = _normal(word)
        if self._matches(known, at):
            return False
        last = self._expected[-1][1]
        if self._timed and at <= last + SAME_PLACE_S:
            return False
        # The seam is behind us: the delivered rest was not heard again.
        self._next = len(self._expected)
        return True

    def _matches(self, word: str, at: float) -> bool:
        """Find the word among those expected; it and all before it are passed."""
        for place in self._places():
            expected, start = self._expected[place]
            if self._timed and start > at + TIME_TOLERANCE_S:
                return False
            if self._timed and start < at - TIME_TOLERANCE_S:
                continue
            if word == expected:
                self._pass(place + 1)
                return True
            if word and len(word) < len(expected) and expected.startswith(word):
                # Heard in parts: the rest of it is still to come.
                self._expected[place] = (expected[len(word) :], start)
                self._pass(place)
                return True
            if self._matches_several(word, place):
                return True
        return False

    def _matches_several(self, word: str, place: int) -> bool:
        """Whether the word is several expected ones, heard as one."""
        rest = word
        while rest and place < len(self._expected):
            expected = self._expected[place][0]
            if not expected or not rest.startswith(expected):
                return False
            rest = rest[len(expected) :]
            place += 1
        if rest:
            return False
        self._pass(place)
        return True

    def _places(self) -> range:
        end = len(self._expected)
        if self._met and not self._timed:
            # One after the other, or a common word would be taken for a later one.
            end = min(end, self._next + MISHEARD + 1)
        return range(self._next, end)

    def _pass(self, place: int) -> None:
        self._next = place
        self._met = True


def _normal(word: str) -> str:
    """Drop case and punctuation, which change from one hearing to the next."""
    return _MARKS.sub("", word.casefold())
