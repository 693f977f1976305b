# SPDX-License-Identifier: MIT
"""Make append-only words out of a recogniser that revises its hypothesis."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from attrs import field, frozen

__all__ = ["HeardWord", "LocalAgreement"]


@frozen(kw_only=True)
class HeardWord:
    """A word of a hypothesis."""

    text: str = field(repr=False)
    """The word."""
    start: float
    """Seconds since the utterance began."""
    end: float
    """Seconds since the utterance began."""

    @property
    def middle(self) -> float:
        """Seconds since the utterance began; decides on which side of a cut it is."""
        return (self.start + self.end) / 2


@frozen(kw_only=True)
class _Hypothesis:
    at: float
    words: tuple[HeardWord, ...]


class LocalAgreement:
    """Commits words on which the hypotheses of the last while agree.

    A word is committed when every hypothesis of the last `stable_s` has it at the
    same place and the decoder is `holdback_s` past its end. What was committed
    stays, even if the decoder changes its mind later.

    Args:
        stable_s: Seconds of audio over which a word must not have changed.
        holdback_s: Seconds of audio that must follow a word.
        drift_s: How far its start may move between hypotheses.

    Source:
        24 flite sentences through Opus at 24 kb/s, pocketsphinx in 80 ms steps:
        final hypotheses 3.8 % WER; committing on two equal hypotheses 30 %,
        with these values about 6.2 %, on average 0.6 s after a word's end.
    """

    def __init__(
        self, *, stable_s: float = 0.48, holdback_s: float = 0.3, drift_s: float = 0.1
    ) -> None:
        self._stable_s = stable_s
        self._holdback_s = holdback_s
        self._drift_s = drift_s
        self._recent: deque[_Hypothesis] = deque()
        self._committed_until = 0.0

    def hypothesis(self, words: Sequence[HeardWord], at: float) -> list[HeardWord]:
        """Take the newest hypothesis for the whole utterance.

        Args:
            words: All its words, in order.
            at: Seconds of the utterance that were decoded for it.

        Returns:
            The words committed by it, in order.
        """
        self._recent.append(_Hypothesis(at=at, words=self._open(words)))
        oldest_needed = at - self._stable_s
        # Keep one hypothesis at or before the begin of the window.
        while len(self._recent) > 1 and self._recent[1].at <= oldest_needed + 1e-6:
            self._recent.popleft()
        if self._recent[0].at > oldest_needed + 1e-6:
            return []
        fresh = self._agreed(at)
        if fresh:
            self._committed_until = fresh[-1].end
            self._recent = deque(
                _Hypothesis(at=one.at, words=self._open(one.words))
                for one in self._recent
            )
        return fresh

    def final(self, words: Sequence[HeardWord]) -> list[HeardWord]:
        """Take the final hypothesis: commits what follows the committed words."""
        self._recent.clear()
        rest = list(self._open(words))
        if rest:
            self._committed_until = rest[-1].end
        return rest

    def _open(self, words: Sequence[HeardWord]) -> tuple[HeardWord, ...]:
        return tuple(word for word in words if word.middle > self._committed_until)

    def _agreed(self, at: float) -> list[HeardWord]:
        agreed = []
        newest = self._recent[-1].words
        for place, word in enumerate(newest):
            if word.end > at - self._holdback_s:
                break
            if not all(self._same(one.words, place, word) for one in self._recent):
                break
            agreed.append(word)
        return agreed

    def _same(self, words: tuple[HeardWord, ...], place: int, word: HeardWord) -> bool:
        if place >= len(words) or words[place].text != word.text:
            return False
        return abs(words[place].start - word.start) <= self._drift_s
