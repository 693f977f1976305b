# SPDX-License-Identifier: MIT
"""People for a soak: they speak, mute, come back, and check what is written of them."""

from __future__ import annotations

import random
from collections import deque
from functools import cache

import anyio
from attrs import Factory, define

from kyutai_stream import open_session
from kyutai_stream.backend import Backend
from kyutai_stream.events import Final, Gap, SessionState, StateChanged
from kyutai_stream.session import Session, SessionOptions
from kyutai_stream.testing.tones import VOCABULARY, Utterance, speak

__all__ = ["Person", "Score"]

CHUNK_S = 0.1
"""Audio is pushed in pieces of this length: more would only burn CPU here."""

OPTIONS = SessionOptions(end_timeout_s=120.0, idle_release_s=20.0)

TIME_TOLERANCE_S = 0.3
"""A step and what a recogniser that begins in the middle of a word adds."""

FLUSH_S = 90.0
"""More than the longest outage and the way back."""

EXAMPLES = 10


@define(kw_only=True)
class Score:
    """What all people found."""

    said: int = 0
    """Words that were spoken."""
    right: int = 0
    """Words that came out in order, at their time."""
    gaps: int = 0
    """`Gap` events."""
    reconnects: int = 0
    """Lost connections."""
    releases: int = 0
    """Places given back because nobody spoke, and taken again."""
    unflushed: int = 0
    """Flushes that did not come in time."""
    wrong: list[str] = Factory(list)
    """The first mistakes, for people."""

    def mistake(self, what: str) -> None:
        """Note a mistake."""
        if len(self.wrong) < EXAMPLES:
            self.wrong.append(what)


@cache
def _utterance(number: int) -> Utterance:
    chosen = random.Random(number)
    words = [chosen.choice(VOCABULARY) for _ in range(24)]
    # Sentences: some words end with a full stop.
    text = " ".join(w + "." if n % 8 == 7 else w for n, w in enumerate(words))
    # Nobody speaks with the first sample of a microphone.
    return speak(text, seed=number, lead_s=0.1, tail_s=0.3)


class Person:
    """One session of a soak.

    Args:
        number: Decides what is said and when.
        backend: The recogniser.
        score: Where findings are noted.
    """

    def __init__(self, number: int, backend: Backend, score: Score) -> None:
        self._number = number
        self._backend = backend
        self.score = score
        """What was found so far, by everybody."""
        self._random = random.Random(f"person {number}")
        self._expected: deque[tuple[str, float]] = deque()
        self._away: SessionState | None = None
        self._until = 0.0
        self._next_round = anyio.Event()
        self.rested = anyio.Event()
        """Set when a round is over and all its words are out."""

    async def run(self) -> None:
        """Live until cancelled."""
        async with (
            open_session(self._backend, options=OPTIONS) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._read, session)
            began = anyio.current_time()
            while True:
                await self._next_round.wait()
                self._next_round = anyio.Event()
                await self._round(session, began)
                self.rested.set()

    def begin_round(self, until: float) -> None:
        """Speak until then, loop seconds."""
        self.rested = anyio.Event()
        self._until = until
        self._next_round.set()

    async def _round(self, session: Session, began: float) -> None:
        await anyio.sleep(self._random.uniform(0.0, 2.0))
        while anyio.current_time() < self._until:
            await self._say(session, began, _utterance(self._random.randrange(6)))
            await anyio.sleep(self._pause_s())
        if not await session.flush(FLUSH_S):
            self.score.unflushed += 1
        # The events of the flush are queued; the reader takes them now.
        await anyio.sleep(0.5)
        for word, at in self._expected:
            self.score.mistake(f"person {self._number}: {word!r} at {at:.2f} lost")
        self._expected.clear()

    def _pause_s(self) -> float:
        """Most mute for a moment, some for so long that they lose their place."""
        if self._random.random() < 0.06:
            return self._random.uniform(22.0, 30.0)
        return self._random.uniform(0.05, 3.0)

    async def _say(self, session: Session, began: float, said: Utterance) -> None:
        start = anyio.current_time()
        media = start - began
        for word in said.words:
            self.expect(word.text, media + word.start)
        step = round(CHUNK_S * said.sample_rate)
        for begin in range(0, len(said.samples), step):
            offset_s = begin / said.sample_rate
            await anyio.sleep_until(start + offset_s)
            session.try_push(said.samples[begin : begin + step], media + offset_s)

    async def _read(self, session: Session) -> None:
        async for event in session:
            if isinstance(event, Gap):
                self.score.gaps += 1
                lost = f"{event.start:.2f} to {event.end:.2f} ({event.reason})"
                self.score.mistake(f"person {self._number}: gap from {lost}")
            elif isinstance(event, Final):
                for word in event.words:
                    for text in word.text.split():
                        self.hear(text, word.start)
            elif isinstance(event, StateChanged):
                self._note_state(event.state)

    def _note_state(self, state: SessionState) -> None:
        # An outage may take several attempts; the way back from idleness is one, too.
        if state is SessionState.READY:
            self.score.reconnects += self._away is SessionState.RECONNECTING
            self.score.releases += self._away is SessionState.IDLE
            self._away = None
        elif state is SessionState.IDLE or (
            state is SessionState.RECONNECTING and self._away is None
        ):
            self._away = state

    def expect(self, text: str, start: float) -> None:
        """Note a word that is going to be spoken, with its media time."""
        self._expected.append((text, start))
        self.score.said += 1

    def hear(self, text: str, start: float) -> None:
        """Compare with what was said; finds its place again after a mistake."""
        who = f"person {self._number}: {text!r} at {start:.2f}"
        nearest = [n for n, (word, _) in enumerate(self._expected) if word == text]
        if not nearest:
            self.score.mistake(f"{who} was never said, or came twice")
            return
        for _ in range(nearest[0]):
            word, at = self._expected.popleft()
            self.score.mistake(f"{who} came, {word!r} at {at:.2f} did not")
        _, at = self._expected.popleft()
        if abs(at - start) > TIME_TOLERANCE_S:
            self.score.mistake(f"{who} was spoken at {at:.2f}")
        else:
            self.score.right += 1
