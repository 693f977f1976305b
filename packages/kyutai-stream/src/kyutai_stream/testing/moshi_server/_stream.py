# SPDX-License-Identifier: MIT
"""One stream inside the model: from heard words to tokens to Word and EndWord.

The language model gives one text token for each step: PAD while nobody speaks,
EPAD where a word begins, its pieces, PAD again. The server's word machine turns
them into messages: a Word when padding follows pieces, an EndWord when the next
EPAD comes. All times follow from that.

Source:
    `rust/moshi-core/src/asr.rs` (0.6.4), `step_tokens`: steps of a stream count
    from 1, tokens before the step `asr_delay_in_tokens` are ignored, the time of an
    EPAD is (step - delay) / 12.5. Measured with two pieces: Word of start 0.0 at
    step 9, EndWord 0.32 at step 10.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from attrs import define, field

from ..tones import HeardWord
from ._wire import EndWord, Outbound, Word
from .options import STEP_S, ConnectionPlan, Model, Recogniser

__all__ = ["WordStream"]

LATE_STEPS = 10
# Words further apart than this are never merged into one.
CLOSE_STEPS = 8


class Token(enum.Enum):
    """What the language model says in one step."""

    PAD = enum.auto()
    EPAD = enum.auto()
    PIECE = enum.auto()


@define
class _Planned:
    """A heard word on its way to the tokens."""

    text: str = field(repr=False)
    epad_step: int
    start_step: int
    moved: bool


class WordStream:
    """The recogniser's part of a slot since its last reset.

    Args:
        model: The server's configuration.
        plan: Faults of the connection.
        listen: Makes the recogniser.
        shuffle: Source of differences where audio is heard again; None for none.
    """

    def __init__(
        self,
        model: Model,
        plan: ConnectionPlan,
        listen: Callable[[], Recogniser],
        shuffle: random.Random | None,
    ) -> None:
        self._model = model
        self._plan = plan
        self._recogniser = listen()
        self._shuffle = shuffle
        self._queue: deque[_Planned] = deque()
        self._last_planned = -1
        self._pieces_left = 0
        self._merged = True
        self._text = ""
        self._start_step = 0
        self._unended = False
        self._last_stop_s = 0.0
        self._late: deque[tuple[int, EndWord]] = deque()
        self._silent_since = 0
        self._sent = 0
        self._first_piece = 0
        self.step = 0
        """Steps of this stream."""
        self.deaf = False
        """Whether words go by unheard."""

    def advance(self, frame: npt.NDArray[np.float32]) -> list[Outbound]:
        """Take one frame and return the Words and EndWords of this step."""
        self.step += 1
        for heard in self._recogniser.push(frame):
            if not self.deaf:
                self._queue.append(self._planned(heard))
        if self.deaf:
            self._forget()
        token = self._next_token()
        if self._model.module == "PyBatchedAsr":
            return self._python_machine(token)
        return [*self._machine(token), *self._extras()]

    def pauses(self) -> tuple[float, ...]:
        """What the extra heads say about this step."""
        busy = bool(self._queue or self._text or self._recogniser.speaking)
        if busy and not self.deaf:
            self._silent_since = self.step
        silent_s = (self.step - self._silent_since) * STEP_S
        return self._model.pauses(silent_s, self.step, self._model.pause_heads)

    def _forget(self) -> None:
        self._queue.clear()
        self._text = ""
        self._pieces_left = 0

    # From words to tokens

    def _planned(self, heard: HeardWord) -> _Planned:
        # A hair of tolerance: a word may begin exactly on the grid.
        start = int(heard.start / STEP_S + 1e-6)
        moved = self._shuffle is not None
        redecoding = self._model.redecoding
        if self._shuffle is not None and redecoding is not None:
            most = int(redecoding.time_s / STEP_S + 1e-6)
            start += self._shuffle.randint(-most, most)
            start = max(start, self._last_planned + 1)
        self._last_planned = start
        return _Planned(
            text=heard.text,
            epad_step=start + self._model.delay_steps,
            start_step=start,
            moved=moved,
        )

    def _next_token(self) -> Token:
        if self._pieces_left:
            self._pieces_left -= 1
            return Token.PIECE
        if self._text and self._goes_on():
            return Token.PIECE
        if self._queue and self._queue[0].epad_step <= self.step:
            return Token.EPAD
        return Token.PAD

    def _goes_on(self) -> bool:
        """Whether the next word is spoken as part of this one."""
        if self._merged:
            return False
        if self._queue:
            self._merged = True
            if self._queue[0].start_step - self._start_step > CLOSE_STEPS:
                return False
            word = self._queue.popleft()
            self._text += f" {word.text}"
            self._pieces_left = self._model.pieces(word.text) - 1
            return True
        # Not known yet: keep the word open while somebody speaks on.
        return self._recogniser.speaking

    def _begin_word(self) -> int:
        """The EPAD's own part: load the next word; returns its start step."""
        word = self._queue.popleft()
        self._text = word.text
        self._pieces_left = self._model.pieces(word.text)
        # A model that was late with its EPAD tells the late time.
        due = self.step - self._model.delay_steps
        self._start_step = word.start_step if word.moved else due
        redecoding = self._model.redecoding
        self._merged = not (
            self._shuffle is not None
            and redecoding is not None
            and redecoding.splits
            and self._shuffle.random() < redecoding.split_probability
        )
        return self._start_step

    # From tokens to messages

    def _machine(self, token: Token) -> list[Outbound]:
        out: list[Outbound] = []
        if token is Token.PIECE:
            return out
        if self._text:
            out += self._word(self._text, self._last_stop_s)
            self._text = ""
            self._unended = True
        if token is Token.EPAD:
            stop_s = self._begin_word() * STEP_S
            if self._unended:
                self._unended = False
                out += self._end(EndWord(stop_time=stop_s))
            self._last_stop_s = stop_s
        return out

    def _python_machine(self, token: Token) -> list[Outbound]:
        """`PyBatchedAsr`: both messages at once, times of the step itself."""
        if token is Token.PIECE:
            if not self._first_piece:
                self._first_piece = self.step
            return []
        out: list[Outbound] = []
        if self._text:
            out += self._word(self._text, self._first_piece * STEP_S)
            out.append(EndWord(stop_time=self.step * STEP_S))
            self._text, self._first_piece = "", 0
        if token is Token.EPAD:
            self._begin_word()
        return out

    def _word(self, text: str, start_s: float) -> list[Outbound]:
        word = Word(text=text, start_time=start_s)
        again = self._sent in self._plan.duplicate_words
        self._sent += 1
        return [word, word] if again else [word]

    def _end(self, end: EndWord) -> list[Outbound]:
        match self._plan.end_words:
            case "normal":
                return [end]
            case "late":
                self._late.append((self.step + LATE_STEPS, end))
        return []

    def _extras(self) -> list[Outbound]:
        out: list[Outbound] = []
        if self._plan.empty_first_word and self.step == self._model.delay_steps + 1:
            out.append(Word(text="", start_time=0.0))
        while self._late and self._late[0][0] <= self.step:
            out.append(self._late.popleft()[1])
        return out
