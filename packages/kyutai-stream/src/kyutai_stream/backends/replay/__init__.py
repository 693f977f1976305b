# SPDX-License-Identifier: MIT
"""`replay`: says a given transcript in time with the audio, or what a person types.

Nothing listens to the audio here; the frames sent are the clock. Two uses:

- **scripted**, for demos and tests: `ReplayBackend(transcript="words.jsonl")`. Every
  connection begins with a bracketed notice, so that nobody takes it for recognition.
- **typed by a person** who listens to the call: `ReplayBackend(source=desk.lines)`,
  see "Caption by hand" in the documentation.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from ...backend import Capabilities, Connection, ConnectionEvent, ConnectRequest, Ready
from ...errors import ConfigError
from ._connection import CaptionSource, ReplayConnection
from ._transcript import Line, TranscriptLine, checked, load, words_of

__all__ = ["DEFAULT_NOTICE", "CaptionSource", "ReplayBackend", "TranscriptLine"]

DEFAULT_NOTICE = "[scripted captions]"
"""First word of every scripted connection."""

EVENT_BUFFER = 64
"""Events between the sending, the typing and the reading task. When it is full,
`send` waits, and so does the typing: nothing is dropped."""


class ReplayBackend:
    """Says a transcript in time with the audio, or what somebody types.

    Each connection, and each reset, plays the transcript from its begin: the times
    are seconds of audio sent since then. A word comes out when the audio has reached
    its end, or at a flush if it has begun. Words beyond the audio never come.

    Args:
        transcript: A JSON Lines file, or lines in code; see `TranscriptLine`.
        source: Gives an async iterator of typed text for a speaker's label. It is
            called once for each connection and read one text at a time. Words are
            dated where the audio is when they arrive. When it ends, no more words
            come; when it raises, the connection is lost.
        notice: First word of each connection, in square brackets. A transcript
            cannot go without; typed captions have none unless it is given.
        typing_delay_s: Seconds by which typed words are dated back, as nobody types
            as fast as people speak.

    Raises:
        ConfigError: If there is not exactly one of `transcript` and `source`, or a
            setting or a line of the transcript is wrong.
    """

    name = "replay"

    def __init__(
        self,
        *,
        transcript: str | Path | Iterable[Line] | None = None,
        source: CaptionSource | None = None,
        notice: str | None = None,
        typing_delay_s: float = 0.0,
    ) -> None:
        if (transcript is None) == (source is None):
            raise ConfigError(
                "replay needs either a transcript (a JSON Lines file with `text` and"
                " `start`) or a source of typed captions"
            )
        if not (math.isfinite(typing_delay_s) and typing_delay_s >= 0):
            raise ConfigError("typing_delay_s is seconds, 0 or more")
        self._source = source
        self._typing_delay_s = typing_delay_s
        self._notice = _notice(notice, scripted=source is None)
        self._lines: tuple[TranscriptLine, ...] = ()
        if isinstance(transcript, str | Path):
            self._lines = load(transcript)
        elif transcript is not None:
            self._lines = checked(transcript)
        self.description = (
            "SCRIPTED transcript in time with the audio, recognises nothing"
            if source is None
            else "captions typed by a person, recognises nothing by itself"
        )
        self.capabilities = Capabilities(
            # A person's captions are what was said; a script's need not be.
            transcribes=source is not None,
            acks=True,
            resettable=True,
            punctuation=True,
        )

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        """Open a connection; runs in this process, nothing can be refused."""
        send, receive = anyio.create_memory_object_stream[ConnectionEvent](EVENT_BUFFER)
        async with send, receive:
            send.send_nowait(Ready(capabilities=self.capabilities))
            connection = ReplayConnection(
                words_of(self._lines, request.speaker),
                notice=self._notice,
                typing_delay_s=self._typing_delay_s,
                send=send,
                receive=receive,
            )
            if self._source is None:
                yield connection
                return
            async with _listening(connection, self._source, request.speaker):
                yield connection


@asynccontextmanager
async def _listening(
    connection: ReplayConnection, source: CaptionSource, speaker: str
) -> AsyncGenerator[None, None]:
    """Listen to the source as long as the block runs; its error comes out as it is."""
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connection.listen, source, speaker)
        try:
            yield
        except Exception as exc:
            failure = exc
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _notice(notice: str | None, *, scripted: bool) -> str:
    if notice is None:
        return DEFAULT_NOTICE if scripted else ""
    if not notice and not scripted:
        return ""
    inside = notice[1:-1].strip()
    bracketed = notice.startswith("[") and notice.endswith("]")
    if not (inside and bracketed and notice.isprintable()):
        raise ConfigError("the notice is one line in square brackets, such as [demo]")
    return notice
