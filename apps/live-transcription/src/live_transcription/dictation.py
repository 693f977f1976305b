# SPDX-License-Identifier: AGPL-3.0-or-later
"""One speaker's words in one language: one session of a recogniser after another.

The session itself survives lost connections; when it fails for good (wrong key,
recogniser broken), it is opened again with growing pauses.

Audio goes through a backlog: a session gets it only while its recogniser listens,
and no faster than it is taken, so that little is lost with a session that fails.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import anyio

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
from .books import SpeakerBooks
from .notices import NOTABLE_S, Notice, Unheard

if TYPE_CHECKING:
    from spreed_signaling.media import AudioChunk

__all__ = ["LAST_WORDS_S", "CaptionListener", "Dictation"]

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

_STALL_S = 1.5
"""Audio this late is a pause: the last words are flushed out, by silence that the
recogniser hears. Sessions do so themselves for live audio (sooner between words); after
a backlog they would wait as long as it was. A network that stalls for less must not cut
a word in two."""


class CaptionListener(Protocol):
    """Takes a speaker's words; nothing here may block."""

    @property
    def wanted(self) -> bool:
        """Whether anybody wants captions now."""

    def partial(self, session_id: str, text: str, lang_id: str) -> None:
        """A sentence grew."""

    def final(self, session_id: str, text: str, lang_id: str) -> None:
        """A sentence is complete."""

    def notice(self, session_id: str, notice: Notice, lang_id: str) -> None:
        """Words are missing or late."""

    def close(self, session_id: str) -> None:
        """No more words of the open sentence will come."""


class Dictation:
    """Carries audio to the recogniser until told to end. Run `keep` beside it.

    Args:
        session_id: The speaker's HPB session id.
        backend: The recogniser.
        lang_id: What she speaks now.
        listener: Gets the words.
        books: Get the state, and what was lost.
        previous: Set when the dictation in the language before is done; its words
            come first.
    """

    def __init__(
        self,
        session_id: str,
        *,
        backend: Backend,
        lang_id: str,
        listener: CaptionListener,
        books: SpeakerBooks,
        previous: anyio.Event | None,
    ) -> None:
        self._session_id = session_id
        self._backend = backend
        self._lang_id = lang_id
        self._listener = listener
        self._books = books
        self._previous = previous
        self._backlog = Backlog(COLD_BACKLOG_S)
        self._listening = False
        """Whether a session's recogniser takes audio now."""
        self._unheard = Unheard()
        self._playout = -math.inf
        """When the audio handed over would have been played, on the loop's clock."""
        self._unflushed = False
        """Whether audio was handed over since we asked for its words."""
        self._handed_s = 0.0
        """Media time up to which audio was handed over."""
        self._told_s = 0.0
        """Media time up to which the session told what became of it."""
        self._ending = False
        self._scope = anyio.CancelScope()
        self._changed = anyio.Event()
        self.done = anyio.Event()
        """Set when no more words will come."""

    def put(self, chunk: AudioChunk) -> None:
        """Hand in audio; the oldest gives way if too much waits."""
        if not self._listening and self._unheard.waits(chunk):
            self._say(Notice.LATE)
        self._drop(self._backlog.put(chunk))
        self._notify()

    def end(self) -> None:
        """Bring out the last words within a bounded time."""
        self._ending = True
        self._scope.deadline = anyio.current_time() + LAST_WORDS_S
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def keep(self) -> None:
        """Keep a session open, again after each failure, until told to end.

        One call. When cancelled it ends at once and pending words are lost: use
        `end` first. Errors of the recogniser never leave it.
        """
        told_all = False
        try:
            with self._scope:
                for delay_s in retry_delays():
                    await self._try_session()
                    if self._ending:
                        break
                    self._books.state = f"failed, next attempt in {delay_s:.0f} s"
                    with anyio.move_on_after(delay_s):
                        while not self._ending:
                            await self._changed.wait()
                told_all = True
            if not told_all:
                self._listener.close(self._session_id)
        finally:
            if not told_all:
                self._missed_at_end()
            self._drop(self._backlog.clear())
            self.done.set()

    async def _try_session(self) -> None:
        try:
            await self._use_session()
        except Exception as exc:
            # One speaker's recogniser: also what it should never raise.
            self._books.failed("speech-to-text", exc)
            self._listener.close(self._session_id)
        finally:
            self._listening = False

    async def _use_session(self) -> None:
        options = SessionOptions(input_buffer_s=_AHEAD_S)
        async with (
            open_session(
                self._backend, language=self._lang_id, options=options
            ) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._hand_over, session)
            if self._previous is not None:
                # The words of the language before come first.
                with anyio.move_on_after(LAST_WORDS_S):
                    await self._previous.wait()
            async for event in session:
                self._take(event)
            tasks.cancel_scope.cancel()

    # Audio in.

    async def _hand_over(self, session: Session) -> None:
        """Give the session what waits while it listens; after the last, end it."""
        self._playout, self._unflushed = -math.inf, False
        while True:
            if self._listening and self._backlog:
                if not await self._push_one(session):
                    return
                if not self._backlog:
                    self._books.caught_up()
            elif self._ending and not self._backlog:
                await session.end_input()
                return
            else:
                await self._wait(session)

    async def _push_one(self, session: Session) -> bool:
        chunk = self._backlog.take()
        if self._backlog.held_s <= BACKLOG_S:
            # What waited for the start has been worked off.
            self._backlog.limit_s = BACKLOG_S
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
                self._drop(self._backlog.put_back(chunk))
        duration_s = len(chunk.samples) / chunk.sample_rate
        self._handed_s = chunk.media_time_s + duration_s
        self._playout = max(self._playout, anyio.current_time()) + duration_s
        self._unflushed = True
        self._books.handed_over()
        return True

    async def _wait(self, session: Session) -> None:
        """Wait for news; flush when a backlog is followed by silence."""
        changed = self._changed
        behind = self._unflushed and self._playout > anyio.current_time() + _STALL_S
        with anyio.move_on_after(_STALL_S if behind else math.inf) as scope:
            await changed.wait()
        if scope.cancelled_caught:
            self._unflushed = False
            # Only asked for: the words come as events.
            await session.flush(timeout_s=0.0)

    # Words out.

    def _take(self, event: SessionEvent) -> None:
        match event:
            case Partial(text=text):
                self._listener.partial(self._session_id, text, self._lang_id)
            case Final(text=text, end=end):
                self._told_s = max(self._told_s, end)
                self._listener.final(self._session_id, text, self._lang_id)
            case Gap(start=start, end=end):
                self._told_s = max(self._told_s, end)
                self._miss(end - start)
            case StateChanged(state=state, detail=detail):
                self._enter(state, detail)
            case LanguageMismatch(expected=expected, detected=detected):
                self._books.warn(
                    "a speaker seems to speak %s, captions expect %s",
                    detected,
                    expected,
                )

    def _enter(self, state: SessionState, detail: str) -> None:
        self._books.state = state.value
        self._listening = state in _LISTENING
        if state is SessionState.IDLE:
            self._backlog.limit_s = COLD_BACKLOG_S
        self._notify()
        if self._listening:
            self._unheard.heard()
            self._books.works()
        elif detail and state is not SessionState.CLOSED:
            # Why it was closed, if that was a failure, comes as an exception.
            self._books.waiting(detail)

    def _missed_at_end(self) -> None:
        """Count what a session had when it did not end in time.

        It was cut off before it could tell; it never holds more than this.
        """
        held_s = min(self._handed_s - self._told_s, _AHEAD_S + _STALL_S)
        if held_s > 0:
            self._miss(held_s)

    def _miss(self, seconds: float) -> None:
        """Note audio that a session had and did not transcribe."""
        self._books.missed(seconds)
        if seconds >= NOTABLE_S:
            self._say(Notice.LOST)

    def _drop(self, seconds: float) -> None:
        """Note audio that no session got."""
        if self._books.dropped(seconds):
            self._say(Notice.LOST)

    def _say(self, notice: Notice) -> None:
        self._listener.notice(self._session_id, notice, self._lang_id)
