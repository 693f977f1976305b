# SPDX-License-Identifier: MIT
"""What the crafted model says at which step, computed without the server."""

from __future__ import annotations

from attrs import define, field, frozen

from ._lm import EPAD, HOLD, PAD, START, Tables, heard_vector, text_vector
from ._mimi import EARS, hear
from ._tensors import Array

__all__ = ["Expected", "ExpectedEnd", "ExpectedWord", "Speaker"]

_STEPS_PER_S = 12.5
_NOTHING = (None,) * len(EARS)


@frozen(kw_only=True)
class ExpectedWord:
    """A `Word` message."""

    step: int
    """It comes right after this many `Step` messages since `Ready`."""
    text: str
    start: float
    """`start_time` in seconds."""


@frozen(kw_only=True)
class ExpectedEnd:
    """An `EndWord` message."""

    step: int
    """It comes right after this many `Step` messages since `Ready`."""
    stop: float
    """`stop_time` in seconds."""


Expected = ExpectedWord | ExpectedEnd
"""What comes between two `Step` messages."""


@define
class Speaker:
    """One slot of the server since its last reset: the model and the word rules.

    Args:
        tables: What the model says next.
        pieces: Text of each word piece by token number.
        delay: `asr_delay_in_tokens` of the server.
    """

    _tables: Tables
    _pieces: dict[int, str]
    _delay: int
    _tokens: list[int] = field(factory=lambda: [START], init=False)
    # A frame reaches the language model one step late, "nothing" comes first.
    _heard: list[Array] = field(factory=lambda: [heard_vector(_NOTHING)], init=False)
    _word: str | None = field(default=None, init=False)
    _unended: bool = field(default=False, init=False)
    _stop: float = field(default=0.0, init=False)

    def push(self, samples: Array) -> list[Expected]:
        """Process audio.

        Args:
            samples: Mono PCM, float32, 24 000 Hz, shape `(n,)`; whole frames of
                1920 samples, as what is left over is ignored.
        """
        said: list[Expected] = []
        for named in hear(samples):
            token = self._next_token()
            self._tokens.append(token)
            self._heard.append(heard_vector(named))
            said += self._say(token)
        return said

    def _next_token(self) -> int:
        at = max(0, len(self._tokens) - 1 - self._tables.look_back)
        copied = (
            self._heard[at] if self._tables.listens else text_vector(self._tokens[at])
        )
        scores = self._tables.after[:, self._tokens[-1]] + self._tables.seen @ copied
        return int(scores.argmax())

    def _say(self, token: int) -> list[Expected]:
        step = len(self._tokens) - 1
        said: list[Expected] = []
        if step < self._delay:
            return said
        if token not in (PAD, EPAD):
            piece = "" if token == HOLD else self._pieces[token]
            self._word = (self._word or "") + piece
        elif self._word is not None:
            said.append(ExpectedWord(step=step, text=self._word, start=self._stop))
            self._word, self._unended = None, True
        if token == EPAD:
            self._stop = (step - self._delay) / _STEPS_PER_S
            if self._unended:
                said.append(ExpectedEnd(step=step, stop=self._stop))
                self._unended = False
        return said
