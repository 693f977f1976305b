# SPDX-License-Identifier: MIT
"""A speaker's place in the batch: what waits, what was said. No thread, no lock.

The engine calls everything here under its lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

from ...backend import (
    ConnectionEvent,
    Flushed,
    Frame,
    Pause,
    Progress,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from ...errors import KyutaiStreamError
from ._settings import ModelFacts
from ._words import EndedWord, SpokenWord, WordAssembler

__all__ = [
    "INBOX_FRAMES",
    "OUTBOX_EVENTS",
    "Flush",
    "Mask",
    "Recogniser",
    "Reset",
    "Slot",
    "StepOutput",
]

INBOX_FRAMES = 8
"""Frames waiting for the model, per speaker; `send` waits when there are as many."""

OUTBOX_EVENTS = 64
"""Events waiting for a reader, per speaker; with as many, the model leaves this
speaker out until somebody reads."""

Mask = npt.NDArray[np.bool_]


@frozen(kw_only=True)
class StepOutput:
    """What one step brought, a row for each place in the batch."""

    tokens: npt.NDArray[np.int64]
    """Text tokens, shape `(slots,)`."""
    pauses: npt.NDArray[np.float32]
    """Pause probabilities 0 to 1, shape `(slots, horizons)`."""


class Recogniser(Protocol):
    """A batched model; one thread at a time calls it."""

    facts: ModelFacts
    """What it can do."""

    def reset(self, slots: Mask) -> None:
        """Begin anew in these places."""

    def step(self, audio: npt.NDArray[np.float32], active: Mask) -> StepOutput:
        """Hear one frame in the active places; the others stay as they are.

        The token it returns for the first frame after a reset is that of the model's
        second step: the first one sees no audio.

        Args:
            audio: Shape `(slots, 1920)`, -1.0 to 1.0, 24 000 Hz.
            active: Shape `(slots,)`.
        """

    def decode(self, pieces: tuple[int, ...]) -> str:
        """Put the tokens of one word together."""


@frozen(kw_only=True)
class Flush:
    """In the inbox: confirm when it comes up."""

    token: int


@frozen
class Reset:
    """In the inbox: begin anew when it comes up."""


@define(eq=False)
class Slot:
    """A place in the batch and the stream of its speaker."""

    number: int
    """Row in the batch."""
    wake: Callable[[], None]
    """Called from the thread when something changed; must not wait."""
    welcome: Callable[[Recogniser], Ready]
    """Makes the first event."""
    inbox: deque[Frame | Flush | Reset] = field(factory=deque)
    outbox: deque[ConnectionEvent] = field(factory=deque)
    fresh: bool = True
    """Claimed and not yet seen by the thread."""
    leaving: bool = False
    """The last one: waits for the thread to end."""
    ended: threading.Thread | None = None
    """The thread that has ended for it."""
    failure: KyutaiStreamError | None = None
    _waiting_frames: int = 0
    _processed: int = 0
    _words: WordAssembler | None = None
    _indexes: dict[int, int] = field(factory=dict)
    _spoken: int = 0

    @property
    def has_work(self) -> bool:
        """Whether the thread should look at it; not while nobody reads."""
        if self.fresh:
            return True
        return bool(self.inbox) and len(self.outbox) < OUTBOX_EVENTS

    def put(self, item: Frame | Flush | Reset) -> bool:
        """Append to the inbox; False if it is full."""
        is_frame = isinstance(item, np.ndarray)
        # Marks are few, the session waits for each; a frame must not keep one out.
        limit = INBOX_FRAMES if is_frame else 2 * INBOX_FRAMES
        if len(self.inbox) >= limit:
            return False
        self.inbox.append(item)
        self._waiting_frames += is_frame
        return True

    def advance(self, model: Recogniser) -> tuple[Frame | None, bool]:
        """Work off marks up to the next frame.

        Returns:
            The frame, and whether the model has to begin anew before it.
        """
        begun = self.fresh
        if self.fresh:
            self.fresh = False
            self._begin(model)
            self.outbox.append(self.welcome(model))
        while self.inbox:
            item = self.inbox.popleft()
            if isinstance(item, Reset):
                begun = True
                self._begin(model)
                self.outbox.append(WasReset())
            elif isinstance(item, Flush):
                self.outbox.append(Flushed(token=item.token))
            else:
                self._waiting_frames -= 1
                return item, begun
        return None, begun

    def deliver(self, model: Recogniser, output: StepOutput) -> None:
        """Say what the step brought. Words first: readers of Progress rely on them."""
        if self._words is None:
            raise AssertionError("begun before its first frame")
        for found in self._words.push(int(output.tokens[self.number])):
            if isinstance(found, SpokenWord):
                self._say(model, found)
            else:
                self._end(found)
        horizons = model.facts.horizons_s
        if horizons:
            row = output.pauses[self.number]
            chances = tuple(min(1.0, max(0.0, float(chance))) for chance in row)
            self.outbox.append(Pause(probabilities=chances, horizons_s=horizons))
        self._processed += 1
        self.outbox.append(
            Progress(frames_processed=self._processed, lag_frames=self._waiting_frames)
        )

    def _begin(self, model: Recogniser) -> None:
        # The model's first step of a stream sees no audio; see `Recogniser.step`.
        self._words = WordAssembler(delay_steps=model.facts.delay_steps, steps_before=1)
        self._indexes.clear()
        self._spoken = 0
        self._processed = 0

    def _say(self, model: Recogniser, word: SpokenWord) -> None:
        text = model.decode(word.pieces).strip()
        # The tokenizer may make nothing of control tokens: such words go unsaid.
        if not text:
            return
        self._indexes[word.index] = self._spoken
        self.outbox.append(Word(index=self._spoken, text=text, start=word.start))
        self._spoken += 1

    def _end(self, word: EndedWord) -> None:
        index = self._indexes.pop(word.index, None)
        if index is not None:
            self.outbox.append(WordEnd(index=index, end=word.end))
