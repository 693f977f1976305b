# SPDX-License-Identifier: MIT
"""One connection that says what it is given: by a script or by somebody typing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AsyncExitStack

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ...backend import (
    ConnectionEvent,
    Flushed,
    Frame,
    Progress,
    WasReset,
    Word,
    WordEnd,
)
from ...core import FRAME_S
from ...errors import ConnectionLost
from ._transcript import TranscriptWord

__all__ = ["CaptionSource", "ReplayConnection"]

logger = logging.getLogger(__name__)

CaptionSource = Callable[[str], AsyncIterable[str]]
"""Called with the speaker's label, once for each connection; yields typed text."""

SLACK_S = 2e-5
"""Half a sample: times in transcripts are decimal."""


class ReplayConnection:
    """Fulfils `kyutai_stream.backend.Connection`; audio counts, its content does not.

    Args:
        words: The script, by start; empty where somebody types.
        notice: First word of the connection and of each reset; empty for none.
        typing_delay_s: Seconds by which typed words are dated back.
        send: Where events go; bounded, which is the back-pressure of both the
            audio and the typing.
        receive: The other end.
    """

    def __init__(
        self,
        words: tuple[TranscriptWord, ...],
        *,
        notice: str,
        typing_delay_s: float,
        send: MemoryObjectSendStream[ConnectionEvent],
        receive: MemoryObjectReceiveStream[ConnectionEvent],
    ) -> None:
        self._words = words
        self._notice = notice
        self._typing_delay_s = typing_delay_s
        self._send = send
        self._receive = receive
        self._begin()

    def _begin(self) -> None:
        self._frames = 0
        self._index = 0
        self._next = 0

    # -- the sending task ----------------------------------------------------------

    async def send(self, frame: Frame) -> None:
        """Count one frame and say what the script has for it."""
        self._frames += 1
        if self._frames == 1 and self._notice:
            await self._say(self._notice, 0.0, None)
        await self._follow(lambda word: word.due <= self._heard_s + SLACK_S)
        await self._put(Progress(frames_processed=self._frames, lag_frames=0))

    async def request_flush(self, token: int) -> None:
        """Say also the word that has only begun, then confirm."""
        await self._follow(lambda word: word.start < self._heard_s - SLACK_S)
        await self._put(Flushed(token=token))

    async def reset(self) -> None:
        """Begin anew: the script and its notice, too."""
        self._begin()
        await self._put(WasReset())

    async def keepalive(self) -> None:
        """Nothing to keep alive."""

    # -- the task that listens to a typing person ------------------------------------

    async def listen(self, source: CaptionSource, speaker: str) -> None:
        """Say what comes from the source, dated where the audio is then.

        The next text is taken when the last one was. The end of the source ends
        the typing only; its failure ends the connection.
        """
        try:
            async with AsyncExitStack() as stack:
                texts = source(speaker)
                close = getattr(texts, "aclose", None)
                if close is not None:
                    stack.push_async_callback(close)
                async for text in texts:
                    await self._type(text)
        except ConnectionLost:
            return
        except Exception as exc:
            # Whatever the program around us raised; its text may hold captions.
            logger.warning("the source of captions failed: %s", type(exc).__name__)
            self._send.close()

    async def _type(self, text: str) -> None:
        for word in text.split():
            start = max(0.0, self._heard_s - self._typing_delay_s)
            await self._say(word, start, None)

    # -- both ------------------------------------------------------------------------

    @property
    def _heard_s(self) -> float:
        return self._frames * FRAME_S

    async def _follow(self, due: Callable[[TranscriptWord], bool]) -> None:
        while self._next < len(self._words) and due(self._words[self._next]):
            word = self._words[self._next]
            self._next += 1
            end = None if word.end is None else min(word.end, self._heard_s)
            await self._say(word.text, word.start, end)

    async def _say(self, text: str, start: float, end: float | None) -> None:
        index = self._index
        # Counted before the wait: a typing person and the notice share the numbers,
        # and the stream keeps the order of those who wait.
        self._index += 1
        await self._put(Word(index=index, text=text, start=start))
        if end is not None:
            await self._put(WordEnd(index=index, end=end))

    async def _put(self, event: ConnectionEvent) -> None:
        try:
            await self._send.send(event)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as exc:
            raise ConnectionLost("the source of captions has failed") from exc

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self._receive
