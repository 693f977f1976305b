# SPDX-License-Identifier: MIT
"""Leave out words that were already delivered when audio is heard a second time.

After a reconnect some audio is sent again, so that no word falls into the seam. The
recogniser then says words of that stretch again: at slightly other times, cut into
messages differently, in bad luck with another spelling. Delivered words are never
taken back, so the second version gives way.

A word that the first hearing missed is heard now for the first time. Where nothing
delivered can be an older version of it, it is handed on: late and behind words that it
preceded, but not lost.
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
        self._unmatched: list[tuple[str, float]] = []
        """Unknown words since the last one that was heard again, and their begins."""
        self.dropped = 0
        """Words left out so far."""
        self.late = 0
        """Words handed on so far that the first hearing had missed."""

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
            What is to be shown and when that begins: of the message all, an end, or
            nothing; before it words of earlier messages that were missed at first.
        """
        words = text.split()
        late: list[tuple[str, float]] = []
        for place, word in enumerate(words):
            at = start + place * TOKEN_S
            if self._is_new(word, at, late):
                late.append((" ".join(words[place:]), at))
                break
        if not late:
            return "", start
        return " ".join(word for word, _ in late), late[0][1]

    def _is_new(self, word: str, at: float, late: list[tuple[str, float]]) -> bool:
        """Compare one word; `late` takes those that turn out to have been missed."""
        if self.is_done:
            return True
        known = _normal(word)
        passed, met = self._next, self._met
        place = self._find(known, at)
        if place is not None:
            self.dropped += 1
            self._settle_unmatched(late if met and place == passed else None)
            return False
        if self._timed and at <= self._expected[-1][1] + SAME_PLACE_S:
            if known:
                self._unmatched.append((word, at))
            else:
                self.dropped += 1
            return False
        # The seam is behind us: the delivered rest was not heard again.
        self._settle_unmatched(None)
        self._next = len(self._expected)
        return True

    def _settle_unmatched(self, late: list[tuple[str, float]] | None) -> None:
        """Decide about words between two that were heard again.

        Args:
            late: Takes the missed ones, where the two follow each other in what was
                delivered; None if there is something that they may be versions of.
        """
        for word, at in self._unmatched:
            if late is not None and self._has_place(at):
                late.append((word, at))
                self.late += 1
            else:
                self.dropped += 1
        self._unmatched.clear()

    def _has_place(self, at: float) -> bool:
        """Whether no delivered word begins where this one does."""
        return all(abs(start - at) > SAME_PLACE_S for _, start in self._expected)

    def _find(self, word: str, at: float) -> int | None:
        """Find the word among those expected; it and all before it are passed."""
        for place in self._places():
            expected, start = self._expected[place]
            if self._timed and start > at + TIME_TOLERANCE_S:
                return None
            if self._timed and start < at - TIME_TOLERANCE_S:
                continue
            if word == expected:
                self._pass(place + 1)
                return place
            if word and len(word) < len(expected) and expected.startswith(word):
                # Heard in parts: the rest of it is still to come.
                self._expected[place] = (expected[len(word) :], start)
                self._pass(place)
                return place
            if self._matches_several(word, place):
                return place
        return None

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
