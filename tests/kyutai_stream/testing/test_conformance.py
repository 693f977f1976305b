"""The suite passes good backends and catches bad ones."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from kyutai_stream.backend import (
    Capabilities,
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Frame,
    Progress,
    Ready,
    Word,
    WordEnd,
)
from kyutai_stream.testing import (
    ConformanceError,
    ConnectionScript,
    ScriptedBackend,
    ScriptedWord,
    check_backend,
)

SPEECH = np.zeros(48_000, dtype=np.float32)
WORDS = (
    ScriptedWord(text="one", start=0.2, end=0.5),
    ScriptedWord(text="two", start=0.6, end=1.0),
)
GOOD = ConnectionScript(words=WORDS)


async def test_the_scripted_backend_keeps_to_the_contract() -> None:
    backend = ScriptedBackend(GOOD)
    await check_backend(backend, speech=SPEECH)
    assert backend.open == 0


async def test_so_does_one_without_acks_and_reset() -> None:
    backend = ScriptedBackend(GOOD, capabilities=Capabilities())
    await check_backend(backend, speech=SPEECH)


Change = Callable[[ConnectionEvent], ConnectionEvent | None]


class Bent(ScriptedBackend):
    """Changes or drops events on their way out."""

    name = "bent"

    def __init__(self, change: Change) -> None:
        super().__init__(GOOD)
        self._change = change

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        async with super().connect(request) as connection:
            yield _BentConnection(connection, self._change)


class _BentConnection:
    def __init__(self, inner: Connection, change: Change) -> None:
        self._inner = inner
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send(self, frame: Frame) -> None:
        await self._inner.send(frame)

    async def request_flush(self, token: int) -> None:
        await self._inner.request_flush(token)

    async def reset(self) -> None:
        await self._inner.reset()

    async def keepalive(self) -> None:
        await self._inner.keepalive()

    async def __aiter__(self) -> AsyncGenerator[ConnectionEvent, None]:
        async for event in self._inner:
            changed = self._change(event)
            if changed is not None:
                yield changed


def renumber(event: ConnectionEvent) -> ConnectionEvent:
    if isinstance(event, Word):
        return Word(index=event.index + 1, text=event.text, start=event.start)
    return event


def misdate(event: ConnectionEvent) -> ConnectionEvent:
    if isinstance(event, Word):
        return Word(index=event.index, text=event.text, start=99.0)
    return event


def end_too_early(event: ConnectionEvent) -> ConnectionEvent:
    return WordEnd(index=5, end=1.0) if isinstance(event, WordEnd) else event


def overcount(event: ConnectionEvent) -> ConnectionEvent:
    if isinstance(event, Progress):
        return Progress(frames_processed=9999, lag_frames=0)
    return event


def no_words(event: ConnectionEvent) -> ConnectionEvent | None:
    return None if isinstance(event, Word) else event


def late_ready(event: ConnectionEvent) -> ConnectionEvent:
    if isinstance(event, Ready):
        return Progress(frames_processed=0, lag_frames=0)
    return event


def no_progress(event: ConnectionEvent) -> ConnectionEvent | None:
    return None if isinstance(event, Progress) else event


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (renumber, "indexes count from 0"),
        (misdate, "within the audio"),
        (end_too_early, "WordEnd follows"),
        (overcount, "never more than sent"),
        (no_words, "at least one word"),
        (late_ready, "Ready is the first"),
        (no_progress, "covers all before Flushed"),
    ],
)
async def test_broken_rules_are_named(change: Change, rule: str) -> None:
    with pytest.raises(ConformanceError, match=rule):
        await check_backend(Bent(change), speech=SPEECH)


async def test_a_missing_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kyutai_stream.testing.conformance.REPLY_TIMEOUT_S", 0.05)
    with pytest.raises(ConformanceError, match="Flushed"):
        await check_backend(
            Bent(lambda event: None if isinstance(event, Flushed) else event),
            speech=SPEECH,
        )


async def test_a_leak(tmp_path: Any) -> None:
    kept: list[int] = []

    class Leaky(ScriptedBackend):
        name = "leaky"

        def connect(self, request: ConnectRequest) -> Any:
            kept.append(os.open(tmp_path, os.O_RDONLY))
            return super().connect(request)

    try:
        with pytest.raises(ConformanceError, match="leaves no descriptor"):
            await check_backend(Leaky(GOOD), speech=SPEECH)
    finally:
        for descriptor in kept:
            os.close(descriptor)


async def test_a_description_of_two_lines() -> None:
    backend = ScriptedBackend(GOOD)
    backend.description = "one\ntwo"
    with pytest.raises(ConformanceError, match="one line"):
        await check_backend(backend, speech=SPEECH)
