# SPDX-License-Identifier: MIT
"""What the fake gateway hears: the seam for a recogniser.

A `Listener` finds words in audio; when they come out is the business of the
stand-in model behind the gateway (`FakeModel`), which waits as the real one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from ...core import FRAME_S
from ..scripted import ScriptedWord
from ..tones import ToneRecogniser

__all__ = [
    "Frame",
    "Heard",
    "Listener",
    "ScriptListener",
    "ToneListener",
    "pieces_of",
]

Frame = npt.NDArray[np.float32]

PIECE_LETTERS = 4


@frozen(kw_only=True)
class Heard:
    """A word that a listener found."""

    text: str = field(repr=False)
    """The word, without leading space."""
    start: float
    """Seconds of audio heard since the last reset."""
    pieces: int = 1
    """Sub-word pieces; each costs the model one step."""


class Listener(Protocol):
    """Finds words in frames; made anew for each stream and reset."""

    def hear(self, frame: Frame) -> Sequence[Heard]:
        """Take the next frame and name the words that are now certain.

        Args:
            frame: Mono PCM, float32, shape `(1920,)`, 24 000 Hz.

        Returns:
            Words in the order of their starts, each once.
        """


class ToneListener:
    """Hears the tone vocabulary of `kyutai_stream.testing.tones` in the audio."""

    def __init__(self) -> None:
        self._recogniser = ToneRecogniser()

    def hear(self, frame: Frame) -> Sequence[Heard]:
        """Listen to the frame; a word is certain about 20 ms after its end."""
        return [
            Heard(text=word.text, start=word.start, pieces=pieces_of(word.text))
            for word in self._recogniser.push(frame)
        ]


class ScriptListener:
    """Does not listen: says known words when enough audio has passed.

    Proves nothing about audio; for demonstrations and simple tests.

    Args:
        words: The transcript, in order of time.
    """

    def __init__(self, words: Sequence[ScriptedWord]) -> None:
        self._words = list(words)
        self._frames = 0

    def hear(self, frame: Frame) -> Sequence[Heard]:
        """Count the frame; names the words that began before its end."""
        self._frames += 1
        heard = []
        while self._words and self._words[0].start < self._frames * FRAME_S:
            word = self._words.pop(0)
            heard.append(
                Heard(text=word.text, start=word.start, pieces=pieces_of(word.text))
            )
        return heard


def pieces_of(text: str) -> int:
    """Count the sub-word pieces a tokenizer may make of a word (4 letters each)."""
    return max(1, -(-len(text) // PIECE_LETTERS))
