"""Sessions with scripted backends: what is said, pushed and read."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import numpy.typing as npt

from kyutai_stream import (
    Final,
    RetryPolicy,
    Session,
    SessionEvent,
    SessionOptions,
    StateChanged,
    open_session,
)
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord

RATE = 24_000
FRAME = 1920
AT_ONCE = RetryPolicy(first_s=0.001, longest_s=0.002, quick_failure_s=0.001)


def script(text: str, **settings: Any) -> ConnectionScript:
    """Words of 0.3 s each, from 0.5 s on."""
    words = tuple(
        ScriptedWord(text=word, start=0.5 + 0.3 * i, end=0.8 + 0.3 * i)
        for i, word in enumerate(text.split())
    )
    return ConnectionScript(words=words, **settings)


def sound(seconds: float) -> npt.NDArray[np.float32]:
    """Soft noise: loud enough to be speech."""
    rng = np.random.default_rng(7)
    return rng.uniform(-0.02, 0.02, round(seconds * RATE)).astype(np.float32)


async def read(session: Session) -> list[SessionEvent]:
    with anyio.fail_after(20):
        return [event async for event in session]


async def next_final(session: Session) -> Final:
    with anyio.fail_after(20):
        async for event in session:
            if isinstance(event, Final):
                return event
    raise AssertionError("iteration ended without a final")


async def run(
    backend: ScriptedBackend, seconds: float, **options: Any
) -> list[SessionEvent]:
    """Push audio, end, read everything."""
    async with open_session(backend, options=SessionOptions(**options)) as session:
        await session.push(sound(seconds))
        await session.end_input()
        return await read(session)


def of(kind: type[Any], events: list[SessionEvent]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def states(events: list[SessionEvent]) -> list[str]:
    return [event.state.value for event in of(StateChanged, events)]
