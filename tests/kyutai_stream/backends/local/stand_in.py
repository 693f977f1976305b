"""A stand-in for the model.

It needs no torch: each frame carries the text token it stands for, so that a word is
said only if its own frames came through, in order, in the right place.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import numpy as np
import numpy.typing as npt

from kyutai_stream.backend import (
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Frame,
    Word,
)
from kyutai_stream.backends.local import (
    LocalBackend,
    LocalSettings,
    ModelFacts,
    StepOutput,
)
from kyutai_stream.backends.local._words import END_OF_PADDING, PADDING

UNSPEAKABLE = 63
"""A piece the stand-in's tokenizer makes nothing of."""

FACTS = ModelFacts(languages=("en",), delay_steps=2, horizons_s=(0.5, 2.0))
SILENCE = np.zeros(1920, dtype=np.float32)


class StandIn:
    """Hears tokens; remembers each stream, and who called it."""

    def __init__(self, slots: int) -> None:
        self.facts = FACTS
        self.heard: list[list[int]] = [[] for _ in range(slots)]
        self.steps = 0
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.go_on = threading.Event()
        self.go_on.set()
        self.stepping = threading.Event()
        self.fail: Exception | None = None

    def reset(self, slots: npt.NDArray[np.bool_]) -> None:
        for number in np.flatnonzero(slots):
            self.heard[number].clear()

    def step(
        self, audio: npt.NDArray[np.float32], active: npt.NDArray[np.bool_]
    ) -> StepOutput:
        self.threads.add(threading.get_ident())
        self.stepping.set()
        assert self.go_on.wait(20)
        if self.fail is not None:
            raise self.fail
        self.steps += 1
        self.batches.append(int(active.sum()))
        tokens = np.full(len(active), -1, dtype=np.int64)
        pauses = np.zeros((len(active), 2), dtype=np.float32)
        for number in np.flatnonzero(active):
            token = round(float(audio[number, 0]) * 100) - 1
            tokens[number] = PADDING if token < 0 else token
            self.heard[number].append(int(tokens[number]))
            pauses[number] = (0.25, len(self.heard[number]) / 100)
        return StepOutput(tokens=tokens, pauses=pauses)

    def decode(self, pieces: tuple[int, ...]) -> str:
        return "".join(
            "" if piece == UNSPEAKABLE else chr(ord("a") - 10 + piece)
            for piece in pieces
        )


class Bench:
    """A backend on a stand-in."""

    def __init__(self, slots: int = 2) -> None:
        self.loads = 0
        self.error: Exception | None = None
        self.may_load = threading.Event()
        self.may_load.set()
        self.models: list[StandIn] = []
        self.slots = slots
        self.backend = LocalBackend(load=self._load, slots=slots)

    def _load(self, settings: LocalSettings) -> StandIn:
        assert self.may_load.wait(20)
        self.loads += 1
        if self.error is not None:
            raise self.error
        self.models.append(StandIn(settings.slots))
        return self.models[-1]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Connection]:
        with anyio.fail_after(30):
            async with self.backend.connect(ConnectRequest()) as connection:
                try:
                    yield connection
                finally:
                    # A test that failed must not leave the thread waiting.
                    for model in self.models:
                        model.go_on.set()


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "kyutai-stream-local"]


def frame(token: int) -> Frame:
    samples = np.zeros(1920, dtype=np.float32)
    samples[0] = (token + 1) / 100
    return samples


def speech(text: str) -> list[Frame]:
    """Frames of the words, each with its end-of-padding, and padding at the end."""
    tokens: list[int] = []
    for word in text.split():
        tokens += [END_OF_PADDING, *(ord(letter) - ord("a") + 10 for letter in word)]
    return [frame(token) for token in [*tokens, PADDING]]


async def say(connection: Connection, frames: list[Frame]) -> None:
    for one in frames:
        await connection.send(one)


async def until(
    connection: Connection, done: Callable[[ConnectionEvent], bool]
) -> list[ConnectionEvent]:
    events = []
    async for event in connection:
        events.append(event)
        if done(event):
            break
    return events


async def flushed(connection: Connection, token: int = 1) -> list[ConnectionEvent]:
    await connection.request_flush(token)
    return await until(connection, lambda event: event == Flushed(token=token))


def words(events: list[ConnectionEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Word)]
