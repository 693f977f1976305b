# SPDX-License-Identifier: MIT
"""From the model's text tokens to words with times. Pure, one instance a stream."""

from __future__ import annotations

from attrs import frozen

from ...core import FRAME_S

__all__ = ["END_OF_PADDING", "PADDING", "EndedWord", "SpokenWord", "WordAssembler"]

PADDING = 3
"""Nothing is being said.

Source:
    `existing_text_padding_id` of the published checkpoints.
"""

END_OF_PADDING = 0
"""A word begins with the next token, so the one before has ended."""


@frozen(kw_only=True)
class SpokenWord:
    """A word is complete: padding followed its pieces."""

    index: int
    """Counts words from 0."""
    pieces: tuple[int, ...]
    """Its tokens, for the tokenizer to put together."""
    start: float
    """Seconds of audio."""


@frozen(kw_only=True)
class EndedWord:
    """Where the last word ended; known when the next one begins."""

    index: int
    """The `SpokenWord` it belongs to."""
    end: float
    """Seconds of audio."""


class WordAssembler:
    """Cuts the token stream into words.

    A word is the pieces between end-of-padding and the next padding (or the next
    end-of-padding, when the speaker makes no pause). It starts at the end-of-padding
    before it; the one after that is where it ended.

    Args:
        delay_steps: Steps by which the text is behind the audio; tokens before that
            step mean nothing.
        steps_before: Steps the model made before the first token given to `push`.

    Source:
        Behaviour of moshi-server 0.6.4 (`batched_asr.rs`, moshi-core `asr.rs`):
        time = (step - delay) / 12.5, steps counted from 1.
    """

    def __init__(self, *, delay_steps: int, steps_before: int = 0) -> None:
        self._delay_steps = delay_steps
        self._step = steps_before
        self._pieces: list[int] = []
        self._start = 0.0
        self._words = 0
        self._unended = False

    def push(self, token: int) -> list[SpokenWord | EndedWord]:
        """Take the token of one step.

        Returns:
            What became known by it: a word, the end of a word, both or nothing.
        """
        self._step += 1
        if self._step < self._delay_steps:
            return []
        if token not in (PADDING, END_OF_PADDING):
            self._pieces.append(token)
            return []
        found: list[SpokenWord | EndedWord] = []
        if self._pieces:
            found.append(self._complete())
        if token == END_OF_PADDING:
            now = (self._step - self._delay_steps) * FRAME_S
            if self._unended:
                self._unended = False
                found.append(EndedWord(index=self._words - 1, end=now))
            self._start = now
        return found

    def _complete(self) -> SpokenWord:
        word = SpokenWord(
            index=self._words, pieces=tuple(self._pieces), start=self._start
        )
        self._pieces = []
        self._words += 1
        self._unended = True
        return word
