# SPDX-License-Identifier: MIT
"""Speak through a session while its recogniser suffers, and count the words.

The words are decoded from the audio itself (`kyutai_stream.testing.tones`), so that
what arrives proves what was heard. The same cases run against the fake servers, a
real moshi-server whose model hears tones, and through a gateway.

```python
utterance = speak("ba de fi. go ku la")
heard = await caption(backend, utterance, trouble=lambda: server.restart(down_s=5))
heard.require_whole(utterance)
```
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import numpy as np
from attrs import Factory, define, evolve, field

from ..backend import Backend
from ..events import Final, Gap, Partial, SessionEvent, StateChanged, TimedWord
from ..session import SessionMetrics, SessionOptions, open_session
from .tones import Utterance

__all__ = ["ChaosError", "Hearing", "caption", "patient"]

CHUNK_S = 0.05
"""Audio is pushed in pieces that are no frames, as real sources do."""

TIME_TOLERANCE_S = 0.25
"""How far a word may be dated from the truth: 160 ms by a model that began in the
middle of a speech, and a step for rounding."""


class ChaosError(AssertionError):
    """What was heard is not what was said."""


@define(kw_only=True)
class Hearing:
    """What came out of a session."""

    events: list[SessionEvent] = Factory(list)
    """Everything, in order."""
    metrics: SessionMetrics | None = None
    """As of the end."""
    times: list[float] = field(factory=list)
    """When the events came, loop seconds."""

    @property
    def words(self) -> list[TimedWord]:
        """The words of all finals."""
        return [word for final in self.finals for word in final.words]

    @property
    def text(self) -> str:
        """All finals, joined."""
        return " ".join(final.text for final in self.finals)

    @property
    def finals(self) -> list[Final]:
        """The finals."""
        return [event for event in self.events if isinstance(event, Final)]

    @property
    def gaps(self) -> list[Gap]:
        """The gaps."""
        return [event for event in self.events if isinstance(event, Gap)]

    @property
    def states(self) -> list[str]:
        """The states gone through."""
        return [e.state.value for e in self.events if isinstance(e, StateChanged)]

    def wrong_words(self, said: Utterance) -> int:
        """Words lost, doubled, or changed: the edit distance."""
        return _distance(self.text.split(), said.text.split())

    def require_whole(self, said: Utterance, *, wrong: int = 0) -> None:
        """Require every word once, in order, at its time, and no gap.

        Args:
            said: What was spoken, from media time 0.
            wrong: Words that may be wrong.

        Raises:
            ChaosError: If that is not so; says what is wrong.
        """
        if self.gaps:
            raise ChaosError(f"gaps although nothing was lost: {self.gaps}")
        self.require_order()
        count = self.wrong_words(said)
        if count > wrong:
            raise ChaosError(f"{count} wrong: said {said.text!r}, heard {self.text!r}")
        if not count:
            self._require_times(said)

    def require_order(self) -> None:
        """Require media times that never go back, and partials that only grow.

        Raises:
            ChaosError: If that is not so.
        """
        starts = [word.start for word in self.words]
        if any(later < earlier - 0.08 for earlier, later in _pairs(starts)):
            raise ChaosError(f"media times go back: {starts}")
        shown: dict[int, str] = {}
        for event in self.events:
            if isinstance(event, Partial | Final):
                before = shown.get(event.segment_id, "")
                if not event.text.startswith(before):
                    raise ChaosError(f"{before!r} was taken back for {event.text!r}")
                shown[event.segment_id] = event.text

    def _require_times(self, said: Utterance) -> None:
        truth = iter(said.words)
        for word in self.words:
            # Of several words heard as one only the first has a time.
            first = [next(truth) for _ in word.text.split()][0]
            if abs(first.start - word.start) > TIME_TOLERANCE_S:
                raise ChaosError(
                    f"{first.text!r} at {first.start:.2f} was dated {word.start:.2f}"
                )


def patient(**changes: object) -> SessionOptions:
    """Return session options whose end waits for any outage of these tests."""
    return evolve(SessionOptions(end_timeout_s=90.0), **changes)  # type: ignore[arg-type]


async def caption(
    backend: Backend,
    utterance: Utterance,
    *,
    options: SessionOptions | None = None,
    trouble: Callable[[], Awaitable[object]] | None = None,
    trouble_at_s: float = 0.0,
    silence_after_s: float = 0.0,
) -> Hearing:
    """Speak at real-time pace (of the loop's clock) and collect what is heard.

    Args:
        backend: The recogniser.
        utterance: What to say; its rate must be that of the options.
        options: The session's; by default one that waits for the last words.
        trouble: Called once while speaking goes on.
        trouble_at_s: When, seconds after the begin.
        silence_after_s: Seconds without audio (muted) between the last word and the
            end of the input.

    Raises:
        KyutaiStreamError: The session's failure.
    """
    heard = Hearing()
    async with (
        open_session(backend, options=options or patient()) as session,
        anyio.create_task_group() as tasks,
    ):
        began = anyio.current_time()

        async def speak() -> None:
            step = round(CHUNK_S * utterance.sample_rate)
            samples = np.asarray(utterance.samples)
            for begin in range(0, len(samples), step):
                await anyio.sleep_until(began + begin / utterance.sample_rate)
                session.try_push(samples[begin : begin + step])
            await anyio.sleep(silence_after_s)
            await session.end_input()

        async def suffer(trouble: Callable[[], Awaitable[object]]) -> None:
            await anyio.sleep_until(began + trouble_at_s)
            await trouble()

        tasks.start_soon(speak)
        if trouble is not None:
            tasks.start_soon(suffer, trouble)
        async for event in session:
            heard.events.append(event)
            heard.times.append(anyio.current_time())
        heard.metrics = session.metrics
    return heard


def _pairs(values: list[float]) -> list[tuple[float, float]]:
    return list(zip(values, values[1:], strict=False))


def _distance(heard: list[str], said: list[str]) -> int:
    row = list(range(len(said) + 1))
    for i, word in enumerate(heard, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(said, 1):
            change = before + (word != other)
            before, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]
