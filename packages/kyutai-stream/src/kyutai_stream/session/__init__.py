# SPDX-License-Identifier: MIT
"""One speaker's live transcription: audio in, partial and final captions out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio

from ..audio import MODEL_RATE, AudioInput, Resampler, to_mono
from ..backend import Backend, Capabilities, ConnectRequest
from ..errors import ConfigError
from ..events import SessionEvent
from ..registry import get_backend
from ._intake import Samples
from ._shell import Runner
from .metrics import SessionMetrics
from .options import SessionOptions

__all__ = ["Session", "SessionMetrics", "SessionOptions", "open_session"]

PIECE_S = 0.5
"""Pushed audio is queued in pieces of at most this, so that a whole file pushed at
once meets the same bound as live audio."""


class Session:
    """A running session; made by `open_session`.

    One task pushes, one task iterates (it may be the same one, if it pushes little
    before it iterates). Every method may be cancelled safely.
    """

    def __init__(
        self, runner: Runner, backend: Backend, options: SessionOptions
    ) -> None:
        self._runner = runner
        self._backend = backend
        self._options = options
        self._format = options.input_format
        self._resampler: Resampler | None = None
        if self._format.sample_rate != MODEL_RATE:
            self._resampler = Resampler(self._format.sample_rate, MODEL_RATE)
            runner.machine.intake.align(self._resampler.longest_lag_s)
        self._ended = False
        self._pushing = anyio.ResourceGuard("pushing to")
        self._reading = anyio.ResourceGuard("iterating over")
        self._failure_shown = False

    @property
    def backend_name(self) -> str:
        """Name of the backend, for people."""
        return self._backend.name

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do."""
        return self._backend.capabilities

    @property
    def metrics(self) -> SessionMetrics:
        """Figures as of now; also after the end."""
        return self._runner.machine.metrics(anyio.current_time())

    async def push(self, samples: AudioInput, media_time: float | None = None) -> None:
        """Give audio; waits while too much of it waits: that is the back-pressure.

        Nothing is ever dropped. If cancelled while waiting, the pieces before were
        taken, the rest was not. One task at a time may push.

        Args:
            samples: float32 or int16 array, shape `(n,)` or `(n, channels)`, or
                interleaved bytes, in the session's `input_format`.
            media_time: Seconds of the first sample on the caller's timeline; None
                continues. A jump forward is a gap in the audio; a jump back is
                ignored.

        Raises:
            AudioFormatError: If the audio is malformed; none of it was taken.
            KyutaiStreamError: If the session has failed; the same error that
                iteration raises.
            ConfigError: If the input was ended.
        """
        with self._pushing:
            mono = self._checked(samples)
            for piece, at in _pieces(mono, media_time, self._format.sample_rate):
                await self._runner.wait_for_room(PIECE_S)
                self._raise_failure()
                self._put(piece, at)

    def try_push(self, samples: AudioInput, media_time: float | None = None) -> bool:
        """Give audio without waiting, as from a callback.

        The newest audio is always taken. When more waits than `replay_s` (before
        the first connection `cold_start_s`) and a few seconds, the oldest is given
        up and reported by a `Gap`.

        Args:
            samples: As for `push`.
            media_time: As for `push`.

        Returns:
            False if older audio had to be given up; do not push again.

        Raises:
            AudioFormatError: If the audio is malformed.
            KyutaiStreamError: If the session has failed.
            ConfigError: If the input was ended.
        """
        mono = self._checked(samples)
        duration_s = len(mono) / self._format.sample_rate
        had_room = self._runner.machine.intake.make_room(duration_s)
        for piece, at in _pieces(mono, media_time, self._format.sample_rate):
            self._put(piece, at)
        return had_room

    async def flush(self, timeout_s: float = 2.0) -> bool:
        """Bring out the words of all audio pushed so far, as a final.

        Safe to cancel; the flush itself then still happens. A connection that is
        lost meanwhile does not matter if the next one comes in time.

        Args:
            timeout_s: Longest wait, seconds.

        Returns:
            True when the words are out; False after the time-out.

        Raises:
            KyutaiStreamError: If the session has failed.
        """
        self._raise_failure()
        if self._runner.finished or self._ended:
            return False
        return await self._runner.flush(timeout_s)

    async def end_input(self) -> None:
        """Say that no audio follows; iteration ends after the last final.

        Returns at once. What was pushed is still transcribed, over a lost connection
        too, as long as it gets on (`end_timeout_s`). Calling it again does nothing.
        """
        if self._ended:
            return
        if self._resampler is not None and not self._runner.finished:
            self._put_samples(self._resampler.finish(), None, 0.0)
        self._ended = True
        if not self._runner.finished:
            self._runner.end_input()
        await anyio.lowlevel.checkpoint()

    async def __aiter__(self) -> AsyncIterator[SessionEvent]:
        """Iterate over the events, by one task at a time.

        A slow reader finds undelivered partials of a segment merged into the
        newest; no other event is ever dropped. Ends after `end_input` and the last
        final; raises the session's failure once all events were read. Cancelling
        loses no event.

        Raises:
            KyutaiStreamError: If the session failed (see `errors`).
            anyio.BusyResourceError: If another task iterates already.
        """
        with self._reading:
            while True:
                try:
                    event = await self._runner.outbox.get()
                except Exception:
                    self._failure_shown = True
                    raise
                if event is None:
                    return
                yield event

    def _checked(self, samples: AudioInput) -> Samples:
        if self._ended:
            raise ConfigError("the input was ended: no audio can follow")
        self._raise_failure()
        return to_mono(samples, self._format)

    def _raise_failure(self) -> None:
        if self._runner.failure is not None:
            self._failure_shown = True
            raise self._runner.failure

    def _put(self, piece: Samples, media_time: float | None) -> None:
        lag_s = 0.0
        if self._resampler is not None:
            lag_s = self._resampler.lag_s
            piece = self._resampler.push(piece)
        self._put_samples(piece, media_time, lag_s)

    def _put_samples(
        self, samples: Samples, media_time: float | None, lag_s: float
    ) -> None:
        if not len(samples):
            return
        now = anyio.current_time()
        self._runner.machine.intake.admit(samples, media_time, lag_s, now)
        self._runner.audio_came()


def _pieces(
    mono: Samples, media_time: float | None, rate: int
) -> Iterator[tuple[Samples, float | None]]:
    step = max(1, round(PIECE_S * rate))
    if len(mono) <= step:
        yield mono, media_time
        return
    for begin in range(0, len(mono), step):
        at = media_time if media_time is None else media_time + begin / rate
        yield mono[begin : begin + step], at


@asynccontextmanager
async def open_session(
    backend: Backend | str | None = None,
    *,
    language: str | None = None,
    speaker: str = "",
    options: SessionOptions | None = None,
) -> AsyncGenerator[Session, None]:
    """Open a session; connecting goes on behind it, audio may be pushed at once.

    Leaving the block closes at once: what was not read is gone. For the last words
    call `end_input` and read to the end. Nothing outlives the block: no task,
    process, thread or descriptor. An error of the block wins over the session's
    own; a session failure that nobody has seen is raised on leaving.

    Args:
        backend: A backend, or the name of one; None as for `get_backend`.
        language: ISO 639-1 code of what is spoken, such as `en`.
        speaker: Label of the speaker; never logged.
        options: Settings.

    Yields:
        The session.

    Raises:
        ConfigError: If the backend is unknown or does not speak the language.
        BackendUnavailable: If the backend cannot be loaded.
        KyutaiStreamError: The session's failure, if nothing else has raised it.
    """
    if backend is None or isinstance(backend, str):
        backend = get_backend(backend)
    spoken = backend.capabilities.languages
    if language is not None and spoken and language not in spoken:
        raise ConfigError(
            f"backend {backend.name!r} does not speak {language!r},"
            f" only {', '.join(spoken)}"
        )
    options = options or SessionOptions()
    request = ConnectRequest(language=language, speaker=speaker)
    runner = Runner(backend, request, options)
    session = Session(runner, backend, options)
    body_error: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run)
        try:
            yield session
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as exc:
            # Kept out of the group, so that it comes out as it went in.
            body_error = exc
        finally:
            tasks.cancel_scope.cancel()
    if body_error is not None:
        raise body_error
    if runner.failure is not None and not session._failure_shown:
        raise runner.failure
