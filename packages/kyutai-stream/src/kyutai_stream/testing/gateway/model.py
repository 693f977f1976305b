# SPDX-License-Identifier: MIT
"""A stand-in for the model behind the gateway, with its delays.

Facts of stt-1b-en_fr on moshi-server 0.6.4, read from its source: 12.5 steps per
second, a delay of 6 steps, a word of `k` pieces comes out `6 + k + 1` steps after
its start and only while further audio comes; the end of a word becomes known at
the onset of the next; four pause heads (0.5, 1, 2, 3 s) whose first 12 steps are
noise.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from attrs import Factory, define, field, frozen

from ...core import FRAME_S
from .listening import Frame, Heard, Listener

__all__ = [
    "DELAY_STEPS",
    "PAUSE_HORIZONS_S",
    "FakeModel",
    "ModelEnd",
    "ModelPiece",
    "ModelStep",
    "ModelWord",
]

DELAY_STEPS = 6
PAUSE_HORIZONS_S = (0.5, 1.0, 2.0, 3.0)

NOISY_STEPS = 12
NOISE = (0.9, 0.1)
QUIET_RMS = 0.004
# Steps of quiet after which each head says one half.
HALF_AFTER = (1.0, 1.5, 2.0, 3.0)


@frozen(kw_only=True)
class ModelWord:
    """A word came out."""

    index: int
    text: str = field(repr=False)
    start: float


@frozen(kw_only=True)
class ModelEnd:
    """The end of a word became known."""

    index: int
    end: float


@frozen(kw_only=True)
class ModelPiece:
    """A sub-word piece came out; the first of a word has a leading space."""

    text: str = field(repr=False)


@frozen(kw_only=True)
class ModelStep:
    """What one step brought."""

    words: tuple[ModelWord | ModelEnd, ...]
    """Words and ends in order; seconds of audio fed since the last reset."""
    pieces: tuple[ModelPiece, ...]
    """The same words by pieces, earlier."""
    prs: tuple[float, ...]
    """Pause probabilities, one for each of `PAUSE_HORIZONS_S`."""


@define
class _Pending:
    heard: Heard
    onset: int
    shown: int = 0

    @property
    def due(self) -> int:
        return self.onset + DELAY_STEPS + self.heard.pieces + 1

    def piece(self, number: int) -> str:
        text, count = self.heard.text, self.heard.pieces
        size = -(-len(text) // count)
        return (" " if number == 0 else "") + text[number * size : (number + 1) * size]


@define
class FakeModel:
    """One stream: frames in, steps out. Pure; knows no clock.

    Args:
        listener: Finds the words.
    """

    listener: Listener
    _steps: int = field(default=0, init=False)
    _words: int = field(default=0, init=False)
    _ended: int = field(default=0, init=False)
    _quiet: int = field(default=0, init=False)
    _loud: deque[bool] = field(
        default=Factory(lambda: deque(maxlen=DELAY_STEPS)), init=False
    )
    _pending: deque[_Pending] = field(default=Factory(deque), init=False)

    def step(self, frame: Frame) -> ModelStep:
        """Process one frame of shape `(1920,)`, float32."""
        self._steps += 1
        for heard in self.listener.hear(frame):
            onset = round(heard.start / FRAME_S)
            self._pending.append(_Pending(heard, onset))
        prs = self._pause(float(np.sqrt(np.mean(np.square(frame)))))
        # Pieces first: a word that came out has no more of them.
        pieces = self._pieces()
        return ModelStep(pieces=pieces, words=self._say(), prs=prs)

    def _say(self) -> tuple[ModelWord | ModelEnd, ...]:
        said: list[ModelWord | ModelEnd] = []
        while self._pending:
            word = self._pending[0]
            if self._steps < word.onset + DELAY_STEPS:
                break
            if self._ended < self._words:
                # Known at the onset of the next word only, and equal to it.
                end = word.onset * FRAME_S
                said.append(ModelEnd(index=self._words - 1, end=round(end, 2)))
                self._ended = self._words
            if self._steps < word.due:
                break
            self._pending.popleft()
            start = round(word.onset * FRAME_S, 2)
            said.append(ModelWord(index=self._words, text=word.heard.text, start=start))
            self._words += 1
        return tuple(said)

    def _pieces(self) -> tuple[ModelPiece, ...]:
        pieces: list[ModelPiece] = []
        for word in self._pending:
            ready = min(self._steps - word.onset - DELAY_STEPS, word.heard.pieces)
            while word.shown < ready:
                text = word.piece(word.shown)
                word.shown += 1
                if text:
                    pieces.append(ModelPiece(text=text))
            if word.shown < word.heard.pieces:
                break
        return tuple(pieces)

    def _pause(self, level: float) -> tuple[float, ...]:
        delayed = self._loud[0] if len(self._loud) == DELAY_STEPS else False
        self._loud.append(level > QUIET_RMS)
        self._quiet = 0 if delayed or self._pending else self._quiet + 1
        if self._steps <= NOISY_STEPS:
            return (NOISE[self._steps % 2],) * len(PAUSE_HORIZONS_S)
        return tuple(round(1 - 0.5 ** (self._quiet / half), 3) for half in HALF_AFTER)
