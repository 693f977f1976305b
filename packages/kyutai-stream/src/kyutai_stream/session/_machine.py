# SPDX-License-Identifier: MIT
"""The session's decisions: no await, no clock; the shell in `_shell.py` drives it.

Audio goes `admit` -> (the shell's queue) -> `feed` -> frames. Words come back
through `receive`. Whatever the reader should see is collected by `events`.
"""

from __future__ import annotations

from typing import assert_never

import attrs
import numpy as np
import numpy.typing as npt
from attrs import frozen

from .. import backend as contract
from ..core import (
    FRAME_S,
    FRAME_SAMPLES,
    SAMPLE_RATE,
    Framer,
    Ledger,
    SpanKind,
    TimelineMap,
)
from ..events import (
    Endpoint,
    Final,
    FinalReason,
    Gap,
    SessionEvent,
    SessionState,
    SpeechStarted,
    StateChanged,
    Usage,
)
from ..transcript import SegmentRules, Transcript
from .options import SessionOptions

Samples = npt.NDArray[np.float32]

JITTER_S = 0.02
"""Jumps of media time up to this need no silence: a packet's length."""

FLUSH_FRAMES = 3
"""Frames of silence beyond the recogniser's delay that bring the last word out."""

PAUSED = (FinalReason.ENDPOINT, FinalReason.PUNCTUATION, FinalReason.SILENCE)


@frozen(kw_only=True)
class Chunk:
    """Admitted audio on its way to the backend."""

    samples: Samples
    media_time: float

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return len(self.samples) / SAMPLE_RATE


class SessionMachine:
    """One speaker's stream: media time, frames, words, gaps and usage."""

    def __init__(
        self,
        backend_name: str,
        capabilities: contract.Capabilities,
        options: SessionOptions,
    ) -> None:
        self._name = backend_name
        self._capabilities = capabilities
        self._options = options
        self._events: list[SessionEvent] = []
        self._transcript = Transcript(self._rules())
        self._framer = Framer()
        self._map = TimelineMap()
        self._ledger = self._new_ledger()
        self._next_media = 0.0
        self._fed_silence_s = 0.0
        self._unflushed = False
        self._speaking = False
        self._draining = False
        self._ready_at: float | None = None
        self._failures = 0
        self._token = 0
        self._totals = {"pushed": 0.0, "sent": 0.0, "processed": 0.0}
        self._totals |= {"silence": 0.0, "gap": 0.0, "connected": 0.0}
        self._connections = 0
        self._words = 0

    # -- the caller's side -------------------------------------------------------

    def admit(self, samples: Samples, media_time: float | None, lag_s: float) -> Chunk:
        """Date audio that was accepted from the caller.

        Args:
            samples: Mono PCM, float32, shape `(n,)`, 24 000 Hz.
            media_time: Media seconds of the pushed chunk; None continues.
            lag_s: Seconds by which the resampler was behind at its begin.
        """
        start = self._next_media
        if media_time is not None:
            start = max(start, media_time - lag_s)
        chunk = Chunk(samples=samples, media_time=start)
        self._next_media = start + chunk.duration_s
        self._totals["pushed"] += chunk.duration_s
        return chunk

    def refuse(self, duration_s: float, media_time: float | None) -> None:
        """Note audio that found no room: it leaves a gap of its length."""
        start = max(self._next_media, media_time or 0.0)
        self._next_media = start + duration_s
        self._gap(start, self._next_media, "overflow")

    def abandon(self, chunk: Chunk) -> None:
        """Note admitted audio that will not be fed any more."""
        self._gap(chunk.media_time, chunk.media_time + chunk.duration_s, "not sent")

    @property
    def is_ready(self) -> bool:
        """Whether the connection may be sent audio."""
        return self._ready_at is not None

    @property
    def unflushed(self) -> bool:
        """Whether audio was fed since the last flush."""
        return self._unflushed

    # -- towards the backend -------------------------------------------------------

    def feed(self, chunk: Chunk) -> list[Samples]:
        """Turn audio into frames; jumps of media time become silence and a move."""
        frames = []
        here = self._map.media_time(self._map.samples / SAMPLE_RATE)
        jump = chunk.media_time - here
        if jump > JITTER_S and self._map.samples:
            wanted = min(jump, self._options.gap_silence_s) - self._fed_silence_s
            frames += self._silence(round(wanted * SAMPLE_RATE))
        self._map.append(
            len(chunk.samples), kind=SpanKind.LIVE, media_time=chunk.media_time
        )
        self._fed_silence_s = 0.0
        self._unflushed = True
        return frames + self._framer.push(chunk.samples)

    def flush(self) -> tuple[list[Samples], int]:
        """Bring out the last words.

        Returns:
            Frames to send (the padded rest and the silence the recogniser needs),
            and the token for `request_flush` after them.
        """
        delay_s = self._capabilities.nominal_delay_s
        extra = 0
        if delay_s > 0:
            extra = -int(-delay_s // FRAME_S) + FLUSH_FRAMES
        frames = self._silence(self._framer.padding + extra * FRAME_SAMPLES)
        self._unflushed = False
        self._token += 1
        return frames, self._token

    def sent(self) -> None:
        """Note that one frame was sent."""
        self._ledger.sent()
        self._totals["sent"] += FRAME_S
        if not self._capabilities.acks:
            self._transcript.receive_heard(self._ledger.heard_s)
            self._collect()

    # -- from the backend ----------------------------------------------------------

    def connecting(self) -> None:
        """Note that a connection is being opened."""
        again = self._connections > 0 or self._failures > 0
        state = SessionState.RECONNECTING if again else SessionState.CONNECTING
        self._state(state, "")

    def receive(self, event: contract.ConnectionEvent, now: float) -> int | None:
        """Take one event of the connection.

        Args:
            event: What came.
            now: Monotonic seconds.

        Returns:
            The token of a confirmed flush, else None.
        """
        token = None
        match event:
            case contract.Ready():
                self._ready(event.capabilities, now)
            case contract.Word():
                self._word(event)
            case contract.WordEnd():
                self._ledger.word_out(event.end)
                end = self._map.media_time(event.end)
                self._transcript.receive_word_end(index=event.index, end=end)
            case contract.Pause():
                self._pause(event)
            case contract.Voice():
                self._voice(event)
            case contract.Progress():
                self._ledger.processed(event.frames_processed)
                if self._capabilities.acks:
                    self._transcript.receive_heard(self._ledger.heard_s)
            case contract.Flushed():
                self._transcript.close(FinalReason.FLUSH)
                token = event.token
            case contract.WasReset():
                self._transcript.close(FinalReason.FLUSH)
                self._collect()
                self._begin_epoch()
            case contract.Draining():
                self._draining = True
                self._state(SessionState.DRAINING, "")
            case _:
                assert_never(event)
        self._collect()
        return token

    def lost(self, error: Exception, now: float) -> None:
        """The connection ended or did not come about; report what is lost with it."""
        if self._ready_at is not None:
            lasted = now - self._ready_at
            self._totals["connected"] += lasted
            if lasted >= self._options.retry.stable_after_s or self._draining:
                self._failures = 0
        self._failures += 1
        if self._ready_at is not None:
            self._transcript.close(FinalReason.DISCONNECT)
            self._collect()
            until_s = (self._map.samples - self._framer.pending) / SAMPLE_RATE
            start = self._map.media_time(self._ledger.settled_s)
            self._gap(start, self._map.media_time(until_s), "connection lost")
            self._begin_epoch()
        self._ready_at = None
        self._draining = False

    def retry_delay_s(self, spread: float) -> float | None:
        """Seconds until the next attempt after `lost`; None to give up."""
        return self._options.retry.delay_s(self._failures, spread)

    def end(self, now: float, detail: str = "") -> None:
        """Close the books: last final, usage, closed."""
        if self._ready_at is not None:
            self._totals["connected"] += now - self._ready_at
            self._ready_at = None
        self._transcript.close(FinalReason.END)
        self._collect()
        self._close_ledger()
        totals = self._totals
        self._events.append(
            Usage(
                audio_pushed_s=totals["pushed"],
                audio_sent_s=totals["sent"],
                audio_processed_s=totals["processed"],
                silence_s=totals["silence"],
                gap_s=totals["gap"],
                connected_s=totals["connected"],
                connections=self._connections,
                words=self._words,
            )
        )
        self._state(SessionState.CLOSED, detail)

    # -- collect -------------------------------------------------------------------

    def events(self) -> list[SessionEvent]:
        """Take what the reader should see; empty when called again."""
        events, self._events = self._events, []
        return events

    def _ready(self, capabilities: contract.Capabilities, now: float) -> None:
        if capabilities != self._capabilities:
            self._capabilities = capabilities
            self._ledger = self._new_ledger()
            # Nothing is open: Ready is the first event of a connection.
            self._transcript.rules = self._rules()
        self._ready_at = now
        self._connections += 1
        self._state(SessionState.READY, "")

    def _word(self, event: contract.Word) -> None:
        start = self._map.media_time(event.start)
        self._words += 1
        self._ledger.word_out(event.start)
        if not self._speaking:
            self._speaking = True
            self._events.append(SpeechStarted(at=start))
        self._transcript.receive_word(
            event.text, index=event.index, start=start, heard=self._ledger.heard_s
        )

    def _pause(self, event: contract.Pause) -> None:
        sure = self._transcript.receive_pause(event.probabilities, event.horizons_s)
        self._collect(probability=sure)

    def _voice(self, event: contract.Voice) -> None:
        at = self._map.media_time(event.at)
        self._ledger.voice(event.at if event.active else None)
        if event.active:
            if not self._speaking:
                self._events.append(SpeechStarted(at=at))
            self._speaking = True
            return
        if self._speaking:
            self._events.append(Endpoint(at=at))
        self._speaking = False
        self._transcript.close(FinalReason.ENDPOINT)

    def _collect(self, probability: float | None = None) -> None:
        for event in self._transcript.events():
            if isinstance(event, Final):
                pause = event.reason in PAUSED and self._speaking
                if pause and not self._capabilities.endpointing:
                    self._events.append(Endpoint(at=event.end, probability=probability))
                if event.reason is not FinalReason.LENGTH:
                    self._speaking = False
            self._events.append(event)

    def _silence(self, count: int) -> list[Samples]:
        if count <= 0:
            return []
        self._map.append(count, kind=SpanKind.SILENCE)
        seconds = count / SAMPLE_RATE
        self._fed_silence_s += seconds
        self._totals["silence"] += seconds
        return self._framer.push(np.zeros(count, dtype=np.float32))

    def _gap(self, start: float, end: float, reason: str) -> None:
        # Less than a sample is rounding, not audio.
        if end - start < 1 / SAMPLE_RATE:
            return
        self._totals["gap"] += end - start
        last = self._events[-1] if self._events else None
        if (
            isinstance(last, Gap)
            and last.reason == reason
            and abs(last.end - start) < 1e-6
        ):
            self._events[-1] = attrs.evolve(last, end=end)
        else:
            self._events.append(Gap(start=start, end=end, reason=reason))

    def _begin_epoch(self) -> None:
        """Begin to count anew; the held-back part of a frame comes along."""
        self._transcript.begin_epoch()
        self._close_ledger()
        pending = self._framer.pending
        old, self._map = self._map, TimelineMap()
        since = old.media_time((old.samples - pending) / SAMPLE_RATE)
        self._map.append(pending, kind=SpanKind.LIVE, media_time=since)
        self._ledger = self._new_ledger()
        self._speaking = False
        self._fed_silence_s = 0.0

    def _close_ledger(self) -> None:
        self._totals["processed"] += self._ledger.frames_processed * FRAME_S
        self._ledger = self._new_ledger()

    def _new_ledger(self) -> Ledger:
        capabilities = self._capabilities
        return Ledger(acks=capabilities.acks, delay_s=capabilities.nominal_delay_s)

    def _rules(self) -> SegmentRules:
        rules = self._options.segments
        if self._capabilities.endpointing:
            rules = attrs.evolve(rules, count_silence=False)
        return rules

    def _state(self, state: SessionState, detail: str) -> None:
        self._events.append(
            StateChanged(state=state, backend=self._name, detail=detail)
        )
