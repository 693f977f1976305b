"""A recogniser that hears perfectly, and audio that it can tell sample by sample.

Every sample tells its number, so that what was sent can be compared with what was
pushed. A word is said once all its samples came without a break, and as much further
audio as the recogniser's delay asks for.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

from kyutai_stream import Capabilities
from kyutai_stream.backend import ConnectionEvent, Flushed, Progress, Word, WordEnd
from kyutai_stream.core import FRAME_SAMPLES, SAMPLE_RATE
from kyutai_stream.session._actions import AskFlush

Samples = npt.NDArray[np.float32]

LOUD = 0.25


def loud(first: int, count: int) -> Samples:
    """Sound whose samples tell their numbers; -10 dBFS."""
    return (LOUD + np.arange(first, first + count) / 2**25).astype(np.float32)


def soft(first: int, count: int) -> Samples:
    """Quiet, likewise; below -66 dBFS."""
    return (np.arange(first + 1, first + count + 1) / 2**35).astype(np.float32)


def positions(frame: Samples) -> npt.NDArray[np.int64]:
    """The numbers of samples; -1 for silence that the session fed."""
    exact = frame.astype(np.float64)
    found = np.where(exact >= LOUD, (exact - LOUD) * 2**25, exact * 2**35 - 1)
    return np.rint(found).astype(np.int64)


@frozen(kw_only=True)
class Said:
    """A word in the audio."""

    text: str
    begin: int
    """Number of its first sample."""
    end: int
    media: float
    """Media seconds of the first sample."""


@define
class _Run:
    stream: int
    first: int
    length: int


@define(eq=False)
class Recogniser:
    """One connection's other side."""

    capabilities: Capabilities
    words: list[Said]
    deaf: bool = False
    """Counts frames and says nothing."""
    frames: list[Samples] = field(factory=list)
    waiting: list[Samples | AskFlush] = field(factory=list)
    _stream: int = 0
    _run: _Run | None = None
    _due: list[tuple[int, Word, WordEnd]] = field(factory=list)
    _index: int = 0

    def reset(self) -> None:
        self._stream = self._index = 0
        self._run = None
        self._due.clear()
        self.waiting.clear()

    def take(self) -> list[ConnectionEvent]:
        """Work on the next thing that was sent."""
        head = self.waiting.pop(0)
        if isinstance(head, AskFlush):
            said = self._say(math.inf) if self.capabilities.self_flushing else []
            return [*said, Flushed(token=head.token)]
        self._listen(head)
        self._stream += FRAME_SAMPLES
        said = self._say(self._stream)
        if self.capabilities.acks:
            frames = self._stream // FRAME_SAMPLES
            said.append(Progress(frames_processed=frames, lag_frames=len(self.waiting)))
        return said

    def _say(self, until: float) -> list[ConnectionEvent]:
        said: list[ConnectionEvent] = []
        while self._due and self._due[0][0] <= until:
            _, word, end = self._due.pop(0)
            if not self.deaf:
                said += [word, end]
        return said

    def _listen(self, frame: Samples) -> None:
        found = positions(frame)
        breaks = np.flatnonzero(np.diff(found) != 1) + 1
        at = 0
        for part in np.split(found, breaks):
            if part[0] >= 0:
                self._extend(self._stream + at, int(part[0]), len(part))
            at += len(part)

    def _extend(self, stream: int, first: int, length: int) -> None:
        run = self._run
        if run is None or (stream, first) != (
            run.stream + run.length,
            run.first + run.length,
        ):
            run = self._run = _Run(stream, first, 0)
        before, run.length = run.first + run.length, run.length + length
        after = run.first + run.length
        for word in self.words:
            if before < word.end <= after and run.first <= word.begin:
                self._heard(word, run)

    def _heard(self, word: Said, run: _Run) -> None:
        start, end = (
            (run.stream + at - run.first) / SAMPLE_RATE for at in (word.begin, word.end)
        )
        ripe = round((end + self.capabilities.nominal_delay_s) * SAMPLE_RATE)
        said = Word(index=self._index, text=word.text, start=start)
        self._due.append((ripe, said, WordEnd(index=self._index, end=end)))
        self._index += 1
