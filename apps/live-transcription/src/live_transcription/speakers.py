# SPDX-License-Identifier: AGPL-3.0-or-later
"""One speaker, from her first sound to her last word, whatever language she speaks.

Each speaker is supervised apart; whatever fails of one, the others go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.abc import TaskGroup

from kyutai_stream import Backend

from .books import Losses, SpeakerBooks
from .dictation import LAST_WORDS_S, CaptionListener, Dictation
from .roomlog import RoomLog

if TYPE_CHECKING:
    from spreed_signaling.media import AudioChunk

__all__ = ["AudioSource", "SpeakerFeed"]


class AudioSource(Protocol):
    """What is needed of a `spreed_signaling.media.Speaker`."""

    @property
    def session_id(self) -> str:
        """HPB session id."""

    def audio(self) -> AsyncIterator[AudioChunk]:
        """The audio, until there is no more."""


class SpeakerFeed:
    """Carries one speaker's audio to the recogniser until she stops.

    Args:
        speaker: Where the audio comes from.
        backend: The recogniser.
        lang_id: What she speaks.
        listener: Gets the words.
        log: Her room's.
    """

    def __init__(
        self,
        speaker: AudioSource,
        *,
        backend: Backend,
        lang_id: str,
        listener: CaptionListener,
        log: RoomLog,
    ) -> None:
        self._speaker = speaker
        self._backend = backend
        self._lang_id = lang_id
        self._listener = listener
        self._books = SpeakerBooks(speaker.session_id, log)
        self._dictation: Dictation | None = None
        self._tasks: TaskGroup | None = None
        self._stopping = anyio.Event()
        self.running = False
        """Whether `run` is under way."""

    @property
    def session_id(self) -> str:
        """The speaker's HPB session id."""
        return self._speaker.session_id

    @property
    def losses(self) -> Losses:
        """What went wrong so far."""
        return self._books.losses

    def status(self) -> dict[str, Any]:
        """Return what an administrator may know: no names and no words."""
        return {
            "backend": self._backend.name,
            "lang_id": self._lang_id,
            **self._books.status(),
        }

    def set_language(self, lang_id: str) -> None:
        """Go on in another language; words already said keep the old one."""
        if lang_id == self._lang_id:
            return
        self._lang_id = lang_id
        dictation = self._dictation
        if dictation is not None and self._tasks is not None:
            dictation.end()
            self._open(self._tasks, dictation.done)

    def stop(self) -> None:
        """Bring out the last words and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Carry audio until the speaker stops; then wait for the last words.

        One call. When cancelled it ends at once and pending words are lost: use
        `stop` first. Errors of the recogniser never leave it.
        """
        self.running = True
        self._books.state = "waiting for audio"
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            async with anyio.create_task_group() as pumping:
                pumping.start_soon(self._pump)
                await self._stopping.wait()
                pumping.cancel_scope.cancel()
            if self._dictation is not None:
                self._dictation.end()
                with anyio.move_on_after(LAST_WORDS_S):
                    await self._dictation.done.wait()
            tasks.cancel_scope.cancel()
        self._listener.close(self.session_id)
        self._books.close()
        self.running = False

    async def _pump(self) -> None:
        try:
            async for chunk in self._speaker.audio():
                self._push(chunk)
        except Exception as exc:
            # Whatever breaks one speaker's media must not reach the others.
            self._books.failed("audio", exc)
        self._stopping.set()

    def _push(self, chunk: AudioChunk) -> None:
        # Nobody asked: what is said now is nobody's business.
        if not self._listener.wanted or self._tasks is None:
            return
        dictation = self._dictation or self._open(self._tasks, None)
        if chunk.gap_samples:
            self._books.missed(chunk.gap_samples / chunk.sample_rate)
        if len(chunk.samples):
            dictation.put(chunk)

    def _open(self, tasks: TaskGroup, previous: anyio.Event | None) -> Dictation:
        self._dictation = dictation = Dictation(
            self.session_id,
            backend=self._backend,
            lang_id=self._lang_id,
            listener=self._listener,
            books=self._books,
            previous=previous,
        )
        tasks.start_soon(dictation.keep)
        return dictation
