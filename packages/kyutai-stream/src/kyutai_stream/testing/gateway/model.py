# SPDX-License-Identifier: MIT
"""The model behind the gateway: that of `FakeMoshiServer`, frame by frame.

Words have the delays of the real model (a word of `k` pieces comes out
`delay + k + 1` steps after its start, and only while further audio comes), and the
end of a word becomes known at the onset of the next.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from attrs import Factory, define, field, frozen

from ..moshi_server import ConnectionPlan, Model, Recogniser
from ..moshi_server._stream import WordStream
from ..moshi_server._wire import EndWord, Word
from ..moshi_server.options import HORIZONS_S

__all__ = ["FakeModel", "Frame", "ModelEnd", "ModelStep", "ModelWord", "horizons"]

Frame = npt.NDArray[np.float32]


@frozen(kw_only=True)
class ModelWord:
    """A word came out (or several as one)."""

    index: int
    text: str = field(repr=False)
    start: float


@frozen(kw_only=True)
class ModelEnd:
    """The end of a word became known."""

    index: int
    end: float


@frozen(kw_only=True)
class ModelStep:
    """What one step brought."""

    words: tuple[ModelWord | ModelEnd, ...]
    """Words and ends in order; seconds of audio fed since the last reset."""
    pieces: tuple[str, ...]
    """The same words by pieces, one a step; the first has a leading space."""
    prs: tuple[float, ...]
    """Pause probabilities, one for each of `horizons`."""


def horizons(model: Model) -> tuple[float, ...]:
    """Horizons of the model's pause heads, seconds."""
    return HORIZONS_S[: model.pause_heads]


@define
class FakeModel:
    """One stream from its beginning or reset: frames in, steps out.

    Args:
        model: Delays, pieces and heads.
        listen: Makes the recogniser.
        number: Number of the connection.
        epoch: Resets so far; with the number it decides how the audio is heard,
            where the model has a `Redecoding`.
    """

    model: Model
    listen: Callable[[], Recogniser]
    number: int = 0
    epoch: int = 0
    _stream: WordStream = field(init=False)
    _words: int = field(default=0, init=False)
    _pieces: deque[str] = field(default=Factory(deque), init=False)

    def __attrs_post_init__(self) -> None:
        plan, shuffle = ConnectionPlan(), self._shuffle()
        self._stream = WordStream(self.model, plan, self.listen, shuffle)

    def step(self, frame: Frame) -> ModelStep:
        """Process one frame of shape `(1920,)`, float32."""
        words: list[ModelWord | ModelEnd] = []
        for message in self._stream.advance(frame):
            if isinstance(message, Word):
                start = round(message.start_time, 4)
                word = ModelWord(index=self._words, text=message.text, start=start)
                self._words += 1
                self._pieces.extend(_pieces(word.text, self.model))
                words.append(word)
            elif isinstance(message, EndWord):
                end = round(message.stop_time, 4)
                words.append(ModelEnd(index=self._words - 1, end=end))
        pieces = (self._pieces.popleft(),) if self._pieces else ()
        prs = tuple(round(one, 3) for one in self._stream.pauses())
        return ModelStep(words=tuple(words), pieces=pieces, prs=prs)

    def stop_hearing(self) -> None:
        """Step on without words (a known fault of the real model)."""
        self._stream.deaf = True

    def _shuffle(self) -> random.Random | None:
        redecoding = self.model.redecoding
        if redecoding is None:
            return None
        if self.number < redecoding.exact_connections and not self.epoch:
            return None
        return random.Random(f"{redecoding.seed}/{self.number}/{self.epoch}")


def _pieces(text: str, model: Model) -> list[str]:
    pieces = []
    for word in text.split():
        size = -(-len(word) // model.pieces(word))
        parts = [word[at : at + size] for at in range(0, len(word), size)]
        pieces += [f" {parts[0]}", *parts[1:]]
    return pieces
