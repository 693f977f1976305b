# SPDX-License-Identifier: MIT
"""Make whole words out of what older gateways send: words, pieces, growing text.

The dialects do not say which they send, so it is seen from the spaces:

- *Words*: no leading spaces; each is complete when it comes.
- *Pieces*: a leading space begins a word. The last word is complete when the next
  begins, or when no further piece came for a while: pieces of a word come in
  consecutive steps of 80 ms.
- *Growing text*: each text begins with the one before. Its last word may still
  grow and is held back in the same way.

A word that was told is never taken back; what was told too early stays.
"""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["HOLD_S", "Speller"]

HOLD_S = 0.35
"""A word without a further piece for so long is complete: four steps."""

LONGEST = 200
"""Characters; no word is longer, whatever comes without a space."""

MOST_WORDS = 500
"""Words of an utterance that are remembered."""

BEGINS_WORD = "\u2581"
"""How a sentencepiece vocabulary writes the leading space."""


class Speller:
    """Collects the words of one stream; no clock of its own."""

    def __init__(self) -> None:
        self.deadline = math.inf
        """When `tick` is due; infinite while no word is held back."""
        self._held = ""
        self._pieces = False
        self._mode: Literal["growing", "chunks"] | None = None
        self._segment: list[str] = []
        self._told = 0

    def token(self, text: str, now: float) -> list[str]:
        """Take a word or a piece.

        Args:
            text: With its leading space, if it has one.
            now: Monotonic seconds.

        Returns:
            Words that are complete.
        """
        text = text.replace(BEGINS_WORD, " ")
        begins, ends = text[:1].isspace(), text[-1:].isspace()
        self._pieces = self._pieces or begins
        parts = text.split()
        if not self._pieces:
            return self.finish() + parts if parts else []
        words = []
        if begins:
            words = self.finish()
        elif parts:
            parts[0] = self._held + parts[0]
        if not parts:
            return words
        last = parts.pop()
        self._hold(last, now)
        words += parts
        if ends or len(last) > LONGEST:
            words += self.finish()
        return words

    def text(self, text: str, now: float, *, final: bool) -> list[str]:
        """Take untyped text: a word, a chunk of words, or all words so far.

        Args:
            text: As it came; may be empty.
            now: Monotonic seconds.
            final: Whether the utterance is complete.

        Returns:
            Words that are complete.
        """
        chunk = text.split()
        words = []
        if self._mode is None and (self._pieces or text[:1].isspace()):
            words = self.token(text, now)
        elif chunk:
            words = self._chunk(chunk, now, final=final)
        if final:
            words += self.finish()
            self._segment = []
            self._told = 0
            self._mode = None if self._mode == "chunks" else self._mode
        return words

    def tick(self, now: float) -> list[str]:
        """Return the word held back, if it has waited long enough."""
        return self.finish() if now >= self.deadline else []

    def finish(self) -> list[str]:
        """Return the word held back: a pause or flush completes it."""
        word, self._held = self._held, ""
        self.deadline = math.inf
        self._told += bool(word)
        return [word] if word else []

    def _hold(self, word: str, now: float) -> None:
        if word != self._held:
            self.deadline = now + HOLD_S
        self._held = word

    def _chunk(self, chunk: list[str], now: float, *, final: bool) -> list[str]:
        if self._mode is None and self._segment:
            grows = _grows(self._segment, chunk, final=final)
            self._mode = "growing" if grows else "chunks"
        if self._mode != "chunks":
            return self._grown(chunk, now)
        words = self.finish()
        if final and chunk == self._segment:
            # The whole utterance once more.
            return words
        self._segment = (self._segment + chunk)[-MOST_WORDS:]
        return words + chunk

    def _grown(self, chunk: list[str], now: float) -> list[str]:
        words = []
        if self._segment and not chunk[0].startswith(self._segment[0]):
            # Another utterance; that the last one was complete was not told.
            words = self.finish()
            self._told = 0
        self._segment = chunk
        fresh = chunk[self._told :]
        if fresh:
            self._hold(fresh.pop(), now)
            self._told += len(fresh)
        return words + fresh


def _grows(before: list[str], after: list[str], *, final: bool) -> bool:
    """Whether a text is the one before and more; its last word may have grown."""
    last = len(before) - 1
    if len(after) <= last or after[:last] != before[:last]:
        return False
    if last == 0:
        # One word twice may be two words ("no", "no"), and a short one begins many.
        return after[0] == before[0] and (len(after) > 1 or final)
    return after[last].startswith(before[last])
