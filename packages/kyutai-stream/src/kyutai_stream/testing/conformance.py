# SPDX-License-Identifier: MIT
"""Check that a backend keeps to the contract of `kyutai_stream.backend`.

For authors of backends, as a test of a few lines:

```python
async def test_my_backend() -> None:
    await check_backend(MyBackend(), speech=samples)
```
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import numpy as np
from attrs import define, field

from ..backend import (
    Backend,
    Capabilities,
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Frame,
    Pause,
    Progress,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from ..core import FRAME_S, FRAME_SAMPLES, Framer

__all__ = ["ConformanceError", "check_backend"]

OPEN_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 10.0


class ConformanceError(AssertionError):
    """A backend broke a rule of the contract; the text names it."""


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise ConformanceError(rule)


@define
class _Listener:
    """Reads a connection beside the task that sends."""

    events: list[ConnectionEvent] = field(factory=list)
    ended: bool = False
    failure: Exception | None = None
    _changed: anyio.Event = field(factory=anyio.Event)

    async def listen(self, connection: Connection) -> None:
        try:
            async for event in connection:
                self.events.append(event)
                self._notify()
        except Exception as exc:
            # Comes out of `until` as it is, not in a group.
            self.failure = exc
        self.ended = True
        self._notify()

    async def until(self, condition: Callable[[], bool], rule: str) -> None:
        with anyio.move_on_after(REPLY_TIMEOUT_S):
            while not (condition() or self.ended):
                await self._changed.wait()
        if self.failure is not None:
            raise self.failure
        _require(condition(), rule)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def check_backend(
    backend: Backend, *, speech: Frame, language: str | None = None
) -> None:
    """Run all checks; each opens connections of its own.

    Args:
        backend: What to check.
        speech: Some seconds in which it finds something to say. Mono PCM, float32,
            shape `(n,)`, 24 000 Hz.
        language: Language of the speech; None for a backend's own choice.

    Raises:
        ConformanceError: If a rule is broken; the text says which.
    """
    request = ConnectRequest(language=language, speaker="conformance")
    _check_description(backend)
    await _checked(backend, request, lambda c, said: _check_stream(c, said, speech))
    await _checked(backend, request, _check_silence)
    await _checked(backend, request, lambda c, said: _check_reset(c, said, speech))
    await _check_leaves_nothing(backend, request, speech)


def _check_description(backend: Backend) -> None:
    _require(isinstance(backend, Backend), "a backend has all attributes of Backend")
    _require(bool(backend.name), "a backend has a name")
    _require(bool(backend.description), "a backend describes itself in a line")
    _require("\n" not in backend.description, "the description is one line")


Check = Callable[[Connection, _Listener], Awaitable[None]]


async def _checked(backend: Backend, request: ConnectRequest, check: Check) -> None:
    """Run one check on one connection; errors come out unwrapped."""
    failures: list[Exception] = []
    with anyio.move_on_after(OPEN_TIMEOUT_S) as opening:
        async with (
            backend.connect(request) as connection,
            anyio.create_task_group() as tasks,
        ):
            opening.deadline = anyio.current_time() + 4 * REPLY_TIMEOUT_S
            listener = _Listener()
            tasks.start_soon(listener.listen, connection)
            try:
                await listener.until(lambda: bool(listener.events), "Ready comes")
                first = listener.events[0]
                _require(isinstance(first, Ready), "Ready is the first event")
                await check(connection, listener)
                _require(not listener.ended, "a healthy connection does not end")
            except Exception as exc:
                failures.append(exc)
            tasks.cancel_scope.cancel()
    _require(not opening.cancelled_caught, "connecting and checks end in time")
    if failures:
        raise failures[0]


def _frames(samples: Frame) -> list[Frame]:
    framer = Framer()
    frames = framer.push(samples.astype(np.float32))
    return frames + framer.push(np.zeros(framer.padding, dtype=np.float32))


async def _say(connection: Connection, frames: list[Frame]) -> None:
    for frame in frames:
        with anyio.move_on_after(REPLY_TIMEOUT_S) as scope:
            await connection.send(frame)
        _require(not scope.cancelled_caught, "send takes a frame in time")


async def _flush(connection: Connection, listener: _Listener, token: int) -> None:
    await connection.request_flush(token)
    await listener.until(
        lambda: Flushed(token=token) in listener.events,
        "request_flush is confirmed by Flushed with its token",
    )


def _capabilities(listener: _Listener) -> Capabilities:
    ready = listener.events[0]
    if not isinstance(ready, Ready):
        raise AssertionError("checked before")
    return ready.capabilities


def _delay_frames(listener: _Listener) -> int:
    return round(_capabilities(listener).nominal_delay_s / FRAME_S) + 3


async def _check_stream(
    connection: Connection, listener: _Listener, speech: Frame
) -> None:
    frames = _frames(speech)
    silence = [np.zeros(FRAME_SAMPLES, dtype=np.float32)] * _delay_frames(listener)
    await _say(connection, frames + silence)
    await _flush(connection, listener, 7)
    flushed_at = len(listener.events)
    words = [event for event in listener.events if isinstance(event, Word)]
    _require(bool(words), "speech brings at least one word before Flushed")
    _require(
        [word.index for word in words] == list(range(len(words))),
        "word indexes count from 0 without a hole",
    )
    longest = (len(frames) + len(silence)) * FRAME_S
    _require(
        all(-FRAME_S <= word.start <= longest for word in words),
        "word starts lie within the audio sent",
    )
    _check_numbers(listener, len(frames) + len(silence))
    # The stream goes on after a flush.
    await _say(connection, silence)
    await _flush(connection, listener, 8)
    late = [e for e in listener.events[flushed_at:] if isinstance(e, Word)]
    _require(not late, "Flushed comes after all words of the audio before it")


def _check_numbers(listener: _Listener, sent: int) -> None:
    known: set[int] = set()
    processed = 0
    for event in listener.events:
        match event:
            case Word():
                known.add(event.index)
            case WordEnd():
                _require(event.index in known, "WordEnd follows its Word")
            case Progress():
                _require(
                    processed <= event.frames_processed <= sent,
                    "Progress counts frames, never back, never more than sent",
                )
                processed = event.frames_processed
            case Pause():
                _require(
                    len(event.probabilities) == len(event.horizons_s),
                    "Pause has one probability for each horizon",
                )
    ready = listener.events[0]
    if isinstance(ready, Ready) and ready.capabilities.acks:
        _require(processed == sent, "with acks, Progress covers all before Flushed")


async def _check_silence(connection: Connection, listener: _Listener) -> None:
    await connection.keepalive()
    await _say(connection, [np.zeros(FRAME_SAMPLES, dtype=np.float32)] * 5)
    await _flush(connection, listener, 1)
    await _flush(connection, listener, 2)


async def _check_reset(
    connection: Connection, listener: _Listener, speech: Frame
) -> None:
    # A connection may be able to do less than the backend promises.
    if not _capabilities(listener).resettable:
        return
    await _say(connection, _frames(speech))
    await connection.reset()
    await listener.until(
        lambda: WasReset() in listener.events, "reset is confirmed by WasReset"
    )
    since = len(listener.events)
    silence = [np.zeros(FRAME_SAMPLES, dtype=np.float32)] * _delay_frames(listener)
    await _say(connection, _frames(speech) + silence)
    await _flush(connection, listener, 3)
    words = [e for e in listener.events[since:] if isinstance(e, Word)]
    _require(bool(words) and words[0].index == 0, "after a reset words count from 0")


async def _check_leaves_nothing(
    backend: Backend, request: ConnectRequest, speech: Frame
) -> None:
    """Cancel in mid-speech: no descriptor, thread or process may remain."""
    await _checked(backend, request, _check_silence)
    gc.collect()
    before = _held()

    async def half(connection: Connection, listener: _Listener) -> None:
        frames = _frames(speech)
        await _say(connection, frames[: len(frames) // 2])

    started = anyio.current_time()
    await _checked(backend, request, half)
    _require(
        anyio.current_time() - started < OPEN_TIMEOUT_S + CLOSE_TIMEOUT_S,
        "closing is bounded",
    )
    await anyio.lowlevel.checkpoint()
    gc.collect()
    _require(_held() == before, "closing leaves no descriptor, thread or process")


def _held() -> tuple[int, int, int]:
    """Descriptors, threads and children of this process (0 where unknown)."""
    descriptors = Path("/proc/self/fd")
    count = len(os.listdir(descriptors)) if descriptors.is_dir() else 0
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    born = len(children.read_text().split()) if children.is_file() else 0
    return count, threading.active_count(), born
