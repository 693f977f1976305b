# SPDX-License-Identifier: MIT
"""One pocketsphinx stream: find utterances, have them decoded, commit words."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import numpy as np
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import define, field

from ...audio import MODEL_RATE
from ...backend import (
    ConnectionEvent,
    Flushed,
    Frame,
    Progress,
    Voice,
    WasReset,
    Word,
    WordEnd,
)
from ...core import HeardWord, LocalAgreement, SpeechChange, SpeechDetector
from ...errors import ConnectionLost
from ._process import Worker

logger = logging.getLogger(__name__)

PREROLL_FRAMES = 4
"""Frames before the detected onset that are decoded too (0.32 s): soft beginnings."""

LONGEST_S = 20.0
"""An utterance without a pause is cut here: the decoder's memory and final pass
grow with it."""


@define(kw_only=True)
class _Utterance:
    start: float
    agreement: LocalAgreement = field(factory=LocalAgreement)
    sent: int = 0
    frames: deque[tuple[int, int]] = field(factory=deque)
    ended: bool = False
    voice_end: float | None = None
    after: list[ConnectionEvent] = field(factory=list)


class PocketsphinxConnection:
    """Fulfils `kyutai_stream.backend.Connection` on one worker."""

    def __init__(
        self,
        worker: Worker,
        send: MemoryObjectSendStream[ConnectionEvent],
        receive: MemoryObjectReceiveStream[ConnectionEvent],
        *,
        hangover_s: float,
    ) -> None:
        self._worker = worker
        self._send = send
        self._receive = receive
        self._hangover_s = hangover_s
        self._utterances: deque[_Utterance] = deque()
        self._words = 0
        self._begin()

    def _begin(self) -> None:
        self._detector = SpeechDetector(hangover_s=self._hangover_s)
        self._preroll: deque[bytes] = deque(maxlen=PREROLL_FRAMES)
        self._taken = 0
        self._frames = 0

    # -- the sending task ----------------------------------------------------------

    async def send(self, frame: Frame) -> None:
        """Look for speech in one frame and have it decoded if there is."""
        changes = self._detector.push(frame)
        audio = _to_int16(frame)
        self._taken += len(frame)
        self._frames += 1
        current = self._current()
        if current is not None:
            await self._decode(current, audio)
        else:
            self._preroll.append(audio)
        for change in changes:
            await self._change(change)
        current = self._current()
        if current is not None and current.sent >= LONGEST_S * MODEL_RATE:
            await self._finish(current)
            await self._start()
        elif current is None:
            await self._emit_after_words(self._progress(self._frames))

    async def request_flush(self, token: int) -> None:
        """End the utterance, if one is on; confirm after its words."""
        for change in self._detector.finish():
            await self._change(change)
        await self._emit_after_words(Flushed(token=token))

    async def reset(self) -> None:
        """End the utterance and count from zero."""
        for change in self._detector.finish():
            await self._change(change)
        await self._emit_after_words(WasReset())
        self._begin()

    async def keepalive(self) -> None:
        """Nothing to keep alive: the worker waits as long as its pipe is open."""

    def _current(self) -> _Utterance | None:
        last = self._utterances[-1] if self._utterances else None
        return None if last is None or last.ended else last

    async def _change(self, change: SpeechChange) -> None:
        current = self._current()
        if change.active:
            await self._emit_after_words(Voice(active=True, at=change.at))
            await self._start()
        elif current is not None:
            current.voice_end = change.at
            await self._finish(current)

    async def _start(self) -> None:
        audio = b"".join(self._preroll)
        self._preroll.clear()
        start = (self._taken - len(audio) // 2) / MODEL_RATE
        utterance = _Utterance(start=start)
        self._utterances.append(utterance)
        await self._worker.send(b"B")
        if audio:
            await self._decode(utterance, audio)

    async def _decode(self, utterance: _Utterance, audio: bytes) -> None:
        utterance.sent += len(audio) // 2
        utterance.frames.append((utterance.sent, self._frames))
        await self._worker.send(b"A", audio)

    async def _finish(self, utterance: _Utterance) -> None:
        utterance.ended = True
        await self._worker.send(b"E")

    async def _emit_after_words(self, event: ConnectionEvent) -> None:
        if self._utterances:
            after = self._utterances[-1].after
            if (
                after
                and isinstance(after[-1], Progress)
                and isinstance(event, Progress)
            ):
                # Keeps the list short, however long the decoder takes.
                after.pop()
            after.append(event)
        else:
            await self._emit(event)

    async def _emit(self, event: ConnectionEvent) -> None:
        if isinstance(event, WasReset):
            self._words = 0
        try:
            await self._send.send(event)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as exc:
            raise ConnectionLost("the pocketsphinx process has ended") from exc

    # -- the task that listens to the worker -----------------------------------------

    async def pump(self) -> None:
        """Turn the worker's answers into events; ends iteration when it dies."""
        while (message := await self._worker.receive()) is not None:
            if "error" in message:
                logger.warning("pocketsphinx failed: %s", message["error"])
                break
            await self._answer(message)
        # Iteration over the connection ends, which tells the session.
        self._send.close()

    async def _answer(self, message: dict[str, Any]) -> None:
        if not self._utterances:
            return
        utterance = self._utterances[0]
        if "final" in message:
            await self._commit(utterance, _heard(message["final"]), final=True)
            if utterance.voice_end is not None:
                await self._emit(Voice(active=False, at=utterance.voice_end))
            # It leaves the queue last: what comes up meanwhile lines up behind it.
            while utterance.after:
                await self._emit(utterance.after.pop(0))
            self._utterances.popleft()
            return
        samples = message["samples"]
        await self._commit(utterance, _heard(message["words"]), at=samples)
        done = None
        while utterance.frames and utterance.frames[0][0] <= samples:
            done = utterance.frames.popleft()[1]
        if done is not None:
            await self._emit(self._progress(done))

    async def _commit(
        self,
        utterance: _Utterance,
        words: Sequence[HeardWord],
        *,
        at: int = 0,
        final: bool = False,
    ) -> None:
        if final:
            fresh = utterance.agreement.final(words)
        else:
            fresh = utterance.agreement.hypothesis(words, at / MODEL_RATE)
        for word in fresh:
            index = self._words
            self._words += 1
            start, end = utterance.start + word.start, utterance.start + word.end
            await self._emit(Word(index=index, text=word.text, start=start))
            await self._emit(WordEnd(index=index, end=end))

    def _progress(self, processed: int) -> Progress:
        lag = max(0, self._frames - processed)
        return Progress(frames_processed=processed, lag_frames=lag)

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self._receive


def _to_int16(samples: Frame) -> bytes:
    scaled = np.rint(samples * 32768.0).clip(-32768, 32767)
    return bytes(scaled.astype("<i2").tobytes())


def _heard(words: list[list[Any]]) -> list[HeardWord]:
    return [HeardWord(text=text, start=start, end=end) for text, start, end in words]
