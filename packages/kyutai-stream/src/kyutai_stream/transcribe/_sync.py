# SPDX-License-Identifier: MIT
"""Transcription for programs without an event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator, Iterable

import anyio.to_thread
from anyio.from_thread import start_blocking_portal

from ..audio import AudioInput
from ..backend import Backend
from ..events import SessionEvent
from ..session import SessionOptions
from ._stream import Transcription, transcribe, transcribe_file

__all__ = ["transcribe_sync"]


def transcribe_sync(
    audio: str | os.PathLike[str] | Iterable[AudioInput],
    *,
    pace: float = 0.0,
    backend: Backend | str | None = None,
    language: str | None = None,
    speaker: str = "",
    options: SessionOptions | None = None,
) -> Generator[SessionEvent, None, None]:
    """Transcribe without async code; an event loop runs in a thread meanwhile.

    ```python
    for event in transcribe_sync("talk.wav", backend="pocketsphinx"):
        if isinstance(event, Final):
            print(event.text)
    ```

    The returned generator holds the session: `close` it (or let go of it) to leave
    early. An iterable is asked for chunks in worker threads, one call at a time.

    Args:
        audio: Path of a file, or chunks as `Session.push` takes them.
        pace: As for `transcribe_file`; for files only.
        backend: A backend, or the name of one; None as for `get_backend`.
        language: ISO 639-1 code of what is spoken, such as `en`.
        speaker: Label of the speaker; never logged.
        options: Settings of the session.

    Yields:
        The session's events.

    Raises:
        OSError: If the file cannot be read.
        KyutaiStreamError: As for `Transcription`.
    """
    if isinstance(audio, str | os.PathLike):
        running = transcribe_file(
            audio,
            pace=pace,
            backend=backend,
            language=language,
            speaker=speaker,
            options=options,
        )
    else:
        running = transcribe(
            _in_threads(audio),
            backend=backend,
            language=language,
            speaker=speaker,
            options=options,
        )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running),
    ):
        while (event := portal.call(_next, running)) is not None:
            yield event


async def _next(running: Transcription) -> SessionEvent | None:
    return await anext(running, None)


async def _in_threads(chunks: Iterable[AudioInput]) -> AsyncGenerator[AudioInput, None]:
    iterator = iter(chunks)
    while True:
        chunk = await anyio.to_thread.run_sync(next, iterator, None)
        if chunk is None:
            return
        yield chunk
