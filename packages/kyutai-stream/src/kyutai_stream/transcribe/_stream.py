# SPDX-License-Identifier: MIT
"""Audio in, events out: a session and the task that feeds it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
from attrs import evolve

from ..backend import Backend
from ..errors import ConfigError
from ..events import SessionEvent
from ..registry import get_backend
from ..session import Session, SessionOptions, open_session
from ._feed import Clock, FeedSource, OpenSource, TimedAudio, open_iterable
from .files import file_source

__all__ = ["Transcription", "transcribe", "transcribe_file"]


class Transcription:
    """A running transcription: an async iterator of session events.

    ```python
    async with transcribe_file("talk.ogg", backend="pocketsphinx") as events:
        async for event in events:
            ...
    ```

    Iterating to the end without `async with` works too. Whoever may leave early
    needs the block: it closes at once, and nothing outlives it. Iteration ends
    after the last final; then an error of the audio source is raised, if there was
    one, so that what had been heard before is not lost. One task iterates.

    Args:
        source: Opens the audio.
        backend: As for `open_session`.
        language: As for `open_session`.
        speaker: As for `open_session`.
        options: As for `open_session`; a source that knows its format overrides
            `input_format`.
    """

    def __init__(
        self,
        source: OpenSource,
        *,
        backend: Backend | str | None = None,
        language: str | None = None,
        speaker: str = "",
        options: SessionOptions | None = None,
    ) -> None:
        self._source = source
        self._backend = backend
        self._language = language
        self._speaker = speaker
        self._options = options
        self._block: AbstractAsyncContextManager[None] | None = None
        self._by_itself = False
        self._events: AsyncIterator[SessionEvent] | None = None
        self._stopped = False
        self._feeding: anyio.CancelScope | None = None
        self._source_error: Exception | None = None
        self._clock = Clock()
        self.session: Session | None = None
        """The session, while it is open."""
        self.duration_s: float | None = None
        """Seconds of audio in all, once open and where that is known."""

    @property
    def started_at(self) -> float | None:
        """`anyio.current_time()` at media second 0; None before it was pushed."""
        return self._clock.started_at

    @property
    def position_s(self) -> float:
        """Media seconds pushed so far; stays 0 for iterables."""
        return self._clock.position_s

    def stop(self) -> None:
        """Take no more audio; iteration goes on to the last final.

        May be called by any task of the same event loop, at any time, repeatedly.
        """
        self._stopped = True
        if self._feeding is not None:
            self._feeding.cancel()

    async def __aenter__(self) -> Self:
        """Open the source and the session.

        Raises:
            OSError: If a file cannot be read.
            KyutaiStreamError: As for `open_session`, and `AudioFormatError` if it
                is no audio.
        """
        if self._block is not None:
            raise ConfigError("a transcription can be opened once only")
        self._block = self._run()
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Close at once; bounded, also when cancelled."""
        if self._block is None:
            return None
        return await self._block.__aexit__(exc_type, exc, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionEvent:
        if self._block is None:
            await self.__aenter__()
            self._by_itself = True
        try:
            return await self._next()
        except StopAsyncIteration:
            if self._by_itself and self.session is not None:
                await self.__aexit__(None, None, None)
            raise
        except BaseException:
            if self._by_itself and self.session is not None:
                await self.__aexit__(*sys.exc_info())
            raise

    async def _next(self) -> SessionEvent:
        if self._events is None:
            raise StopAsyncIteration
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            self._events = None
        error, self._source_error = self._source_error, None
        if error is not None:
            raise error
        raise StopAsyncIteration

    @asynccontextmanager
    async def _run(self) -> AsyncGenerator[None, None]:
        async with self._source() as source:
            backend = self._backend
            if backend is None or isinstance(backend, str):
                backend = get_backend(backend)
            self.duration_s = source.duration_s
            async with open_session(
                backend,
                language=self._language,
                speaker=self._speaker,
                options=self._options_for(source, backend),
            ) as session:
                async with self._fed(session, source):
                    yield

    def _options_for(self, source: FeedSource, backend: Backend) -> SessionOptions:
        options = self._options or SessionOptions()
        if self._options is None and not source.live and backend.capabilities.acks:
            # Nobody waits for captions, and acknowledgements keep the pace: there
            # is no backlog that could burst upon the server.
            options = evolve(options, catch_up_speed=None)
        if source.format is not None:
            options = evolve(options, input_format=source.format)
        return options

    @asynccontextmanager
    async def _fed(
        self, session: Session, source: FeedSource
    ) -> AsyncGenerator[None, None]:
        self.session = session
        self._events = aiter(session)
        body_error: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._feed, session, source)
            try:
                yield
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as exc:
                # Kept out of the group, so that it comes out as it went in.
                body_error = exc
            finally:
                self.session = self._events = None
                tasks.cancel_scope.cancel()
        if body_error is not None:
            raise body_error
        if self._source_error is not None:
            raise self._source_error

    async def _feed(self, session: Session, source: FeedSource) -> None:
        # Never raises: a failing task would cancel the reader in mid-sentence.
        try:
            with anyio.CancelScope() as self._feeding:
                if not self._stopped:
                    await source.feed(session, self._clock)
        except Exception as exc:
            self._source_error = exc
        await session.end_input()


def transcribe(
    audio: AsyncIterable[TimedAudio],
    *,
    backend: Backend | str | None = None,
    language: str | None = None,
    speaker: str = "",
    options: SessionOptions | None = None,
) -> Transcription:
    """Transcribe audio from an async iterable.

    The iterable is asked for more only when the session has room: at most
    `options.input_buffer_s` seconds are held.

    Args:
        audio: Chunks as `Session.push` takes them, in `options.input_format`, or
            pairs of a chunk and the media time of its first sample in seconds.
        backend: A backend, or the name of one; None as for `get_backend`.
        language: ISO 639-1 code of what is spoken, such as `en`.
        speaker: Label of the speaker; never logged.
        options: Settings of the session.

    Returns:
        The events; see `Transcription` for leaving early and for errors.
    """
    return Transcription(
        open_iterable(audio),
        backend=backend,
        language=language,
        speaker=speaker,
        options=options,
    )


def transcribe_file(
    path: str | os.PathLike[str],
    *,
    pace: float = 0.0,
    backend: Backend | str | None = None,
    language: str | None = None,
    speaker: str = "",
    options: SessionOptions | None = None,
) -> Transcription:
    """Transcribe an audio file, read piece by piece.

    Args:
        path: Any format PyAV reads (extra `cli`); without PyAV 16-bit WAV only.
        pace: 0 as fast as the backend takes it; 1.0 as it was spoken, in pieces of
            20 ms; 2.0 twice as fast.
        backend: A backend, or the name of one; None as for `get_backend`.
        language: ISO 639-1 code of what is spoken, such as `en`.
        speaker: Label of the speaker; never logged.
        options: Settings of the session; `input_format` is the file's.

    Returns:
        The events; see `Transcription` for leaving early and for errors.

    Raises:
        ConfigError: If the pace is negative.
    """
    return Transcription(
        file_source(path, pace=pace),
        backend=backend,
        language=language,
        speaker=speaker,
        options=options,
    )
