# SPDX-License-Identifier: MIT
"""`kyutai-stream transcribe`."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from pathlib import Path

import anyio
from attrs import define, evolve, field, frozen

from ..backend import Backend
from ..errors import ConfigError
from ..events import Final, Gap, SessionEvent, StateChanged
from ..subtitles import format_of, write_subtitles
from ..transcribe import OpenSource, Transcription
from ._failures import FAILED, describe, exit_code
from ._screens import Screen, Status, warning_of

__all__ = ["Job", "check_output", "transcribe"]

STOP_S = 10.0
"""Longest time for the last words after Ctrl-C, seconds."""

TICK_S = 0.2


@frozen(kw_only=True)
class Job:
    """What to do."""

    source: OpenSource
    backend: Backend
    language: str | None
    speaker: str = field(repr=False)
    outputs: Sequence[Path]
    strict: bool


@define
class _Outcome:
    finals: list[tuple[Final, float]] = field(factory=list, repr=False)
    status: Status = field(factory=Status)
    gaps: int = 0
    cut_off: bool = False
    error: Exception | None = None


def check_output(path: Path) -> None:
    """Find out before hours of work whether the result could be written.

    Raises:
        ConfigError: If the ending is unknown or there is no such folder.
        BackendUnavailable: If pysubs2 is needed and missing.
    """
    format_of(path)
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {str(path.parent)!r} to write into")
    if format_of(path) in ("srt", "vtt"):
        from ..subtitles import render_srt

        render_srt([])


async def transcribe(job: Job, screen: Screen) -> int:
    """Transcribe to the end or to Ctrl-C, write the files, say what went wrong.

    Returns:
        The exit code.
    """
    outcome = _Outcome()
    running = Transcription(
        job.source,
        backend=job.backend,
        language=job.language,
        speaker=job.speaker,
    )
    with screen:
        await _run(running, screen, outcome)
        for path in job.outputs:
            write_subtitles(path, outcome.finals, speaker=job.speaker)
        if outcome.cut_off:
            screen.warn("stopped before all words had come")
        if outcome.error is not None:
            if isinstance(outcome.error, BrokenPipeError):
                raise outcome.error
            screen.warn(describe(outcome.error))
            return exit_code(outcome.error)
    return FAILED if job.strict and (outcome.gaps or outcome.cut_off) else 0


async def _run(running: Transcription, screen: Screen, outcome: _Outcome) -> None:
    async with anyio.create_task_group() as tasks:
        work = anyio.CancelScope()
        tasks.start_soon(_heed_signals, running, work)
        tasks.start_soon(_tick, running, screen, outcome)
        with work:
            try:
                await _follow(running, screen, outcome)
            except Exception as exc:
                outcome.error = exc
        outcome.cut_off = work.cancelled_caught
        tasks.cancel_scope.cancel()


async def _follow(running: Transcription, screen: Screen, outcome: _Outcome) -> None:
    opened_at = anyio.current_time()
    async with running:
        async for event in running:
            at = anyio.current_time() - (running.started_at or opened_at)
            _note(event, at, outcome)
            screen.show(event, at)
            warning = warning_of(event)
            if warning is not None:
                screen.warn(warning)


def _note(event: SessionEvent, at: float, outcome: _Outcome) -> None:
    match event:
        case Final():
            outcome.finals.append((event, at))
        case Gap():
            outcome.gaps += 1
        case StateChanged():
            outcome.status = evolve(
                outcome.status, state=event.state.value, backend=event.backend
            )


async def _heed_signals(running: Transcription, work: anyio.CancelScope) -> None:
    """First signal: no more audio, but the last words. Second one: stop at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if running.session is None or work.deadline < math.inf:
                work.cancel()
            running.stop()
            work.deadline = anyio.current_time() + STOP_S


async def _tick(running: Transcription, screen: Screen, outcome: _Outcome) -> None:
    while True:
        await anyio.sleep(TICK_S)
        status = evolve(
            outcome.status,
            position_s=running.position_s,
            duration_s=running.duration_s,
            lag_s=lag_s(running),
        )
        screen.tick(status)


def lag_s(running: Transcription) -> float | None:
    """Seconds of audio that were pushed and are not transcribed yet, about."""
    metrics = getattr(running.session, "metrics", None)
    if metrics is None:
        return None
    return float(metrics.waiting_s + metrics.server_lag_s)
