# SPDX-License-Identifier: AGPL-3.0-or-later
"""One speaker: her audio into a speech-to-text session, its words out.

Each speaker is supervised apart. The session itself survives lost connections;
when it fails for good (wrong key, recogniser broken), it is opened again with
growing pauses while the other speakers go on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from kyutai_stream import (
    Backend,
    Final,
    Gap,
    LanguageMismatch,
    Partial,
    Session,
    SessionEvent,
    StateChanged,
    open_session,
)
from spreed_signaling.media import AudioChunk
from spreed_signaling.protocol.backoff import retry_delays

__all__ = ["AudioSource", "CaptionListener", "SpeakerFeed"]

_log = logging.getLogger(__name__)

LAST_WORDS_S = 3.0
"""Longest wait for the last words of a speaker who stopped."""


class AudioSource(Protocol):
    """What is needed of a `spreed_signaling.media.Speaker`."""

    @property
    def session_id(self) -> str:
        """HPB session id."""

    def audio(self) -> AsyncIterator[AudioChunk]:
        """The audio, until there is no more."""


class CaptionListener(Protocol):
    """Takes a speaker's words; nothing here may block."""

    @property
    def wanted(self) -> bool:
        """Whether anybody wants captions now."""

    def partial(self, session_id: str, text: str, lang_id: str) -> None:
        """A sentence grew."""

    def final(self, session_id: str, text: str, lang_id: str) -> None:
        """A sentence is complete."""

    def close(self, session_id: str) -> None:
        """No more words of the open sentence will come."""


@define(eq=False)
class _Line:
    """One session after another in one language; ends when told to."""

    lang_id: str
    previous: anyio.Event | None
    session: Session | None = None
    ending: anyio.Event = field(factory=anyio.Event)
    done: anyio.Event = field(factory=anyio.Event)


class SpeakerFeed:
    """Carries one speaker's audio to the recogniser until she stops.

    Args:
        speaker: Where the audio comes from.
        backend: The recogniser.
        lang_id: What she speaks.
        listener: Gets the words.
        room_token: For logs.
    """

    def __init__(
        self,
        speaker: AudioSource,
        *,
        backend: Backend,
        lang_id: str,
        listener: CaptionListener,
        room_token: str,
    ) -> None:
        self._speaker = speaker
        self._backend = backend
        self._lang_id = lang_id
        self._listener = listener
        self._log_fields = {"room_token": room_token}
        self._line: _Line | None = None
        self._tasks: TaskGroup | None = None
        self._stopping = anyio.Event()
        self._state = "waiting for a place"
        self.running = False
        """Whether `run` is under way."""
        self.gaps = 0
        self.gap_s = 0.0
        """Seconds of audio that were never transcribed."""
        self.dropped_s = 0.0
        """Seconds of audio refused because the recogniser was away or too slow."""
        self.errors = 0
        self.last_error = ""

    @property
    def session_id(self) -> str:
        """The speaker's HPB session id."""
        return self._speaker.session_id

    def status(self) -> dict[str, Any]:
        """Return what an administrator may know: no names and no words."""
        return {
            "state": self._state,
            "backend": self._backend.name,
            "lang_id": self._lang_id,
            "gaps": self.gaps,
            "gap_s": round(self.gap_s, 2),
            "dropped_s": round(self.dropped_s, 2),
            "errors": self.errors,
            "last_error": self.last_error,
        }

    def set_language(self, lang_id: str) -> None:
        """Go on in another language; words already said keep the old one."""
        if lang_id == self._lang_id:
            return
        self._lang_id = lang_id
        line = self._line
        if line is not None and self._tasks is not None:
            self._end(line)
            self._open(self._tasks, line.done)

    def stop(self) -> None:
        """Bring out the last words and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Carry audio until the speaker stops; then wait for the last words.

        One call. When cancelled it ends at once and pending words are lost: use
        `stop` first. Errors of the recogniser never leave it.
        """
        self.running = True
        self._state = "waiting for audio"
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            async with anyio.create_task_group() as pumping:
                pumping.start_soon(self._pump, pumping)
                await self._stopping.wait()
                pumping.cancel_scope.cancel()
            if self._line is not None:
                self._end(self._line)
                with anyio.move_on_after(LAST_WORDS_S):
                    await self._line.done.wait()
            tasks.cancel_scope.cancel()
        self._listener.close(self.session_id)
        self.running = False

    async def _pump(self, pumping: TaskGroup) -> None:
        try:
            async for chunk in self._speaker.audio():
                self._push(chunk)
        except Exception as exc:
            # Whatever breaks one speaker's media must not reach the others.
            self._failed("audio", exc)
        self._stopping.set()

    def _push(self, chunk: AudioChunk) -> None:
        # Nobody asked: what is said now is nobody's business.
        if not self._listener.wanted or self._tasks is None:
            return
        if self._line is None:
            self._open(self._tasks, None)
        if chunk.gap_samples:
            self._missed(chunk.gap_samples / chunk.sample_rate)
        if not len(chunk.samples):
            return
        session = None if self._line is None else self._line.session
        duration_s = len(chunk.samples) / chunk.sample_rate
        try:
            taken = session is not None and session.try_push(
                chunk.samples, media_time=chunk.media_time_s
            )
        except Exception:
            # The session has failed; whoever iterates over it reports why.
            taken = False
        if not taken:
            self.dropped_s += duration_s

    def _open(self, tasks: TaskGroup, previous: anyio.Event | None) -> None:
        self._line = _Line(self._lang_id, previous)
        tasks.start_soon(self._keep_session, self._line)

    def _end(self, line: _Line) -> None:
        line.ending.set()

    async def _keep_session(self, line: _Line) -> None:
        """Keep a session open, again after each failure, until the line ends."""
        for delay_s in retry_delays():
            try:
                await self._use_session(line)
            except Exception as exc:
                # One speaker's recogniser: also what it should never raise.
                self._failed("speech-to-text", exc)
                self._listener.close(self.session_id)
            finally:
                line.session = None
            if line.ending.is_set():
                break
            self._state = f"failed, next attempt in {delay_s:.0f} s"
            with anyio.move_on_after(delay_s):
                await line.ending.wait()
        line.done.set()

    async def _use_session(self, line: _Line) -> None:
        async with (
            open_session(self._backend, language=line.lang_id) as session,
            anyio.create_task_group() as tasks,
        ):
            line.session = session

            async def end_input() -> None:
                await line.ending.wait()
                await session.end_input()

            tasks.start_soon(end_input)
            if line.previous is not None:
                # The words of the language before come first.
                with anyio.move_on_after(LAST_WORDS_S):
                    await line.previous.wait()
            async for event in session:
                self._take(event, line.lang_id)
            tasks.cancel_scope.cancel()

    def _take(self, event: SessionEvent, lang_id: str) -> None:
        match event:
            case Partial(text=text):
                self._listener.partial(self.session_id, text, lang_id)
            case Final(text=text):
                self._listener.final(self.session_id, text, lang_id)
            case Gap(start=start, end=end):
                self._missed(end - start)
            case StateChanged(state=state, detail=detail):
                self._state = state.value
                if detail:
                    self.last_error = detail
            case LanguageMismatch(expected=expected, detected=detected):
                _log.warning(
                    "a speaker seems to speak %s, captions expect %s",
                    detected,
                    expected,
                    extra=self._log_fields,
                )

    def _missed(self, seconds: float) -> None:
        self.gaps += 1
        self.gap_s += seconds

    def _failed(self, what: str, exc: Exception) -> None:
        self.errors += 1
        while isinstance(exc, ExceptionGroup):
            exc = exc.exceptions[0]
        self.last_error = f"{what}: {str(exc) or type(exc).__name__}"
        _log.warning(
            "a speaker's %s failed: %s",
            what,
            str(exc) or type(exc).__name__,
            extra=self._log_fields,
        )
