# SPDX-License-Identifier: MIT
"""Map the recogniser's clock to the caller's media time.

A recogniser counts every sample it was sent: live audio, silence that the session
fed, and (with replay) audio sent twice. The map remembers which stretch of the
sent stream stands for which media time. One map lives as long as one epoch of a
connection: a new connection or a reset begins a new one.
"""

from __future__ import annotations

import enum
from collections import deque

from attrs import frozen

from .framing import SAMPLE_RATE

__all__ = ["Span", "SpanKind", "TimelineMap"]

KEPT_SAMPLES = 120 * SAMPLE_RATE
"""How far back times can be asked for: no recogniser's words are older."""

EARLY_S = 0.2
"""How much too early a word may be dated."""

JOIN_TOLERANCE_S = 0.0005
"""Media times this close to the expected ones continue a span (rounding of
timestamps in milliseconds)."""


class SpanKind(enum.StrEnum):
    """What a stretch of the sent stream was."""

    LIVE = "live"
    SILENCE = "silence"
    REPLAY = "replay"
    PRIME = "prime"
    """Audio that is not the caller's, fed to set the recogniser's language."""


STANDING = (SpanKind.SILENCE, SpanKind.PRIME)


@frozen(kw_only=True)
class Span:
    """A stretch of the sent stream with one straight relation to media time."""

    sample: int
    """First sample, counted in the sent stream from 0."""
    media_time: float
    """Media seconds of that sample."""
    kind: SpanKind
    """Whether media time runs on in it (silence and priming stand still)."""


class TimelineMap:
    """Answers which media time a second of the sent stream stands for.

    Media time never runs backwards: where the caller's clock jumps back, the later
    audio continues at the time already reached.
    """

    def __init__(self) -> None:
        self._spans: deque[Span] = deque()
        self._sent = 0

    @property
    def samples(self) -> int:
        """Samples mapped so far."""
        return self._sent

    def append(
        self, count: int, *, kind: SpanKind, media_time: float | None = None
    ) -> None:
        """Note that `count` samples follow in the sent stream.

        Args:
            count: Samples.
            kind: What they are.
            media_time: Media seconds of the first one; None continues.
        """
        if count <= 0:
            return
        here = self.media_time(self._sent / SAMPLE_RATE)
        start = here if media_time is None else max(media_time, here)
        last = self._spans[-1] if self._spans else None
        joins = abs(start - here) <= JOIN_TOLERANCE_S
        if last is None or last.kind is not kind or not joins:
            self._spans.append(Span(sample=self._sent, media_time=start, kind=kind))
        self._sent += count
        self._forget()

    def media_time(self, stream_s: float) -> float:
        """Media seconds for a time in the sent stream.

        Within fed silence this is the time at which the silence began. Times
        beyond what was sent run on from the last span; times before the oldest
        remembered span give its begin.

        Args:
            stream_s: Seconds of audio since the epoch began.
        """
        found = self._span_at(stream_s)
        if found is None:
            return max(0.0, stream_s)
        if found.kind in STANDING:
            return found.media_time
        beyond = stream_s * SAMPLE_RATE - found.sample
        return found.media_time + max(0.0, beyond) / SAMPLE_RATE

    def word_start(self, stream_s: float) -> float:
        """Media seconds for the begin of a word.

        Recognisers date words on their grid, up to two steps early: one that seems
        to begin in fed silence just before audio begins with that audio.
        """
        found = self._span_at(stream_s)
        if found is None or found.kind not in STANDING:
            return self.media_time(stream_s)
        position = stream_s * SAMPLE_RATE
        for span in self._spans:
            if span.kind in STANDING or span.sample <= position:
                continue
            if span.sample - position <= EARLY_S * SAMPLE_RATE:
                return span.media_time
            break
        return found.media_time

    def kind(self, stream_s: float) -> SpanKind | None:
        """Say what was sent at a time of the sent stream; None if nothing was."""
        found = self._span_at(stream_s)
        return None if found is None else found.kind

    def _span_at(self, stream_s: float) -> Span | None:
        position = stream_s * SAMPLE_RATE
        for span in reversed(self._spans):
            # Half a sample of slack: times come as decimal seconds.
            if span.sample <= position + 0.5:
                return span
        return self._spans[0] if self._spans else None

    def _forget(self) -> None:
        oldest = self._sent - KEPT_SAMPLES
        while len(self._spans) > 1 and self._spans[1].sample <= oldest:
            self._spans.popleft()
