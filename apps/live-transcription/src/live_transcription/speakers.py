# SPDX-License-Identifier: AGPL-3.0-or-later
"""One speaker: her audio into a speech-to-text session, its words out.

Each speaker is supervised apart. The session itself survives lost connections;
when it fails for good (wrong key, recogniser broken), it is opened again with
growing pauses while the other speakers go on.

Audio goes through a backlog: a session gets it only while its recogniser listens,
and no faster than it is taken, so that little is lost with a session that fails.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.abc import TaskGroup
from attrs import Factory, define, field

from kyutai_stream import (
    Backend,
    Final,
    Gap,
    LanguageMismatch,
    Partial,
    Session,
    SessionEvent,
    SessionOptions,
    SessionState,
    StateChanged,
    open_session,
)
from spreed_signaling.protocol.backoff import retry_delays

from .backlog import Backlog

if TYPE_CHECKING:
    from spreed_signaling.media import AudioChunk

__all__ = ["AudioSource", "CaptionListener", "SpeakerFeed"]

_log = logging.getLogger(__name__)

LAST_WORDS_S = 3.0
"""Longest wait for the last words of a speaker who stopped."""

BACKLOG_S = 30.0
"""Most audio that waits for a recogniser which is away."""

COLD_BACKLOG_S = 120.0
"""The same for one that may have to start from zero: before it was first ready, and
after it was given back because nobody spoke."""

_LISTENING = {SessionState.READY, SessionState.DRAINING, SessionState.IDLE}
"""States in which a session gets audio; an idle one is woken by it."""

_AHEAD_S = 4.0
"""Audio that waits in a session itself; it is lost if the session fails for good.
Enough for a session to see that it is behind and to leave long pauses out."""

_STALL_S = 0.8
"""Audio this late is a pause: the last words are flushed out, by silence that the
recogniser hears. Sessions do so themselves for live audio (sooner between words); after
a backlog they would wait as long as it was. A network that stalls for less must not cut
a word in two."""


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
    backlog: Backlog = Factory(lambda: Backlog(COLD_BACKLOG_S))
    listening: bool = False
    """Whether a session's recogniser takes audio now."""
    playout: float = -math.inf
    """When the audio handed over would have been played, on the loop's clock."""
    unflushed: bool = False
    """Whether audio was handed over since we asked for its words."""
    handed_s: float = 0.0
    """Media time up to which audio was handed over."""
    told_s: float = 0.0
    """Media time up to which the session told what became of it."""
    ending: bool = False
    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    done: anyio.Event = field(factory=anyio.Event)
    changed: anyio.Event = field(factory=anyio.Event)

    def notify(self) -> None:
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    def end(self) -> None:
        """Bring out the last words within a bounded time."""
        self.ending = True
        self.scope.deadline = anyio.current_time() + LAST_WORDS_S
        self.notify()


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
        """Seconds of audio given up because the recogniser was away or too slow;
        part of `gap_s`."""
        self._dropping = False
        """Whether the oldest audio that waits follows audio given up."""
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
            line.end()
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
                self._line.end()
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
        line = self._line or self._open(self._tasks, None)
        if chunk.gap_samples:
            self._missed(chunk.gap_samples / chunk.sample_rate)
        if not len(chunk.samples):
            return
        self._dropped(line.backlog.put(chunk))
        line.notify()

    def _open(self, tasks: TaskGroup, previous: anyio.Event | None) -> _Line:
        self._line = line = _Line(self._lang_id, previous)
        tasks.start_soon(self._keep_session, line)
        return line

    async def _keep_session(self, line: _Line) -> None:
        """Keep a session open, again after each failure, until the line ends."""
        told_all = False
        try:
            with line.scope:
                for delay_s in retry_delays():
                    await self._try_session(line)
                    if line.ending:
                        break
                    self._state = f"failed, next attempt in {delay_s:.0f} s"
                    with anyio.move_on_after(delay_s):
                        while not line.ending:
                            await line.changed.wait()
                told_all = True
            if not told_all:
                self._listener.close(self.session_id)
        finally:
            if not told_all:
                self._missed_at_end(line)
            self._dropped(line.backlog.clear())
            line.done.set()

    async def _try_session(self, line: _Line) -> None:
        try:
            await self._use_session(line)
        except Exception as exc:
            # One speaker's recogniser: also what it should never raise.
            self._failed("speech-to-text", exc)
            self._listener.close(self.session_id)
        finally:
            line.listening = False

    async def _use_session(self, line: _Line) -> None:
        options = SessionOptions(input_buffer_s=_AHEAD_S)
        async with (
            open_session(
                self._backend, language=line.lang_id, options=options
            ) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._hand_over, line, session)
            if line.previous is not None:
                # The words of the language before come first.
                with anyio.move_on_after(LAST_WORDS_S):
                    await line.previous.wait()
            async for event in session:
                self._take(event, line)
            tasks.cancel_scope.cancel()

    async def _hand_over(self, line: _Line, session: Session) -> None:
        """Give the session what waits while it listens; after the last, end it."""
        line.playout, line.unflushed = -math.inf, False
        while True:
            if line.listening and line.backlog:
                if not await self._push_one(line, session):
                    return
            elif line.ending and not line.backlog:
                await session.end_input()
                return
            else:
                await self._wait(line, session)

    async def _push_one(self, line: _Line, session: Session) -> bool:
        chunk = line.backlog.take()
        if line.backlog.held_s <= BACKLOG_S:
            # What waited for the start has been worked off.
            line.backlog.limit_s = BACKLOG_S
        taken = False
        try:
            # Waits for room; when cancelled meanwhile, nothing was taken.
            await session.push(chunk.samples, media_time=chunk.media_time_s)
            taken = True
        except Exception:
            # The session has failed; whoever iterates over it reports why.
            return False
        finally:
            if not taken:
                self._dropped(line.backlog.put_back(chunk))
        duration_s = len(chunk.samples) / chunk.sample_rate
        line.handed_s = chunk.media_time_s + duration_s
        line.playout = max(line.playout, anyio.current_time()) + duration_s
        line.unflushed = True
        self._dropping = False
        return True

    async def _wait(self, line: _Line, session: Session) -> None:
        """Wait for news; flush when a backlog is followed by silence."""
        changed = line.changed
        behind = line.unflushed and line.playout > anyio.current_time() + _STALL_S
        with anyio.move_on_after(_STALL_S if behind else math.inf) as scope:
            await changed.wait()
        if scope.cancelled_caught:
            line.unflushed = False
            # Only asked for: the words come as events.
            await session.flush(timeout_s=0.0)

    def _take(self, event: SessionEvent, line: _Line) -> None:
        lang_id = line.lang_id
        match event:
            case Partial(text=text):
                self._listener.partial(self.session_id, text, lang_id)
            case Final(text=text, end=end):
                line.told_s = max(line.told_s, end)
                self._listener.final(self.session_id, text, lang_id)
            case Gap(start=start, end=end):
                line.told_s = max(line.told_s, end)
                self._missed(end - start)
            case StateChanged(state=state, detail=detail):
                self._state = state.value
                line.listening = state in _LISTENING
                if state is SessionState.IDLE:
                    line.backlog.limit_s = COLD_BACKLOG_S
                line.notify()
                if detail:
                    self.last_error = detail
            case LanguageMismatch(expected=expected, detected=detected):
                _log.warning(
                    "a speaker seems to speak %s, captions expect %s",
                    detected,
                    expected,
                    extra=self._log_fields,
                )

    def _dropped(self, seconds: float) -> None:
        """Count audio that was given up; one hole as long as it goes on."""
        if not seconds:
            return
        self.dropped_s += seconds
        self.gap_s += seconds
        if not self._dropping:
            self._dropping = True
            self.gaps += 1
            _log.warning(
                "audio waited too long for the recogniser: the oldest is lost",
                extra=self._log_fields,
            )

    def _missed_at_end(self, line: _Line) -> None:
        """Count what a session had when it did not end in time.

        It was cut off before it could tell; it never holds more than this.
        """
        held_s = min(line.handed_s - line.told_s, _AHEAD_S + _STALL_S)
        if held_s > 0:
            self._missed(held_s)

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
