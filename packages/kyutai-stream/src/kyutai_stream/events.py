# SPDX-License-Identifier: MIT
"""What a session tells its reader: frozen values, past-tense facts.

All times are seconds of the caller's media timeline: the `media_time` handed to
`Session.push`, or seconds of audio pushed where none was given. Silence that the
session feeds for its own purposes never moves them. What people said is left out
of every `repr`, so that an event may be logged.
"""

from __future__ import annotations

import enum

from attrs import field, frozen

__all__ = [
    "Endpoint",
    "Final",
    "FinalReason",
    "Gap",
    "LanguageMismatch",
    "Partial",
    "SessionEvent",
    "SessionState",
    "SpeechStarted",
    "StateChanged",
    "TimedWord",
    "Usage",
]


class FinalReason(enum.StrEnum):
    """Why a segment was closed."""

    ENDPOINT = "endpoint"
    """The backend said that the speaker paused (pause heads or own detector)."""
    PUNCTUATION = "punctuation"
    """A sentence ended and a short pause followed."""
    SILENCE = "silence"
    """No word came for a while."""
    LENGTH = "length"
    """The segment grew too long and was cut at a word boundary."""
    FLUSH = "flush"
    """The caller asked, or audio stopped arriving (mute, stall)."""
    END = "end"
    """The input ended."""
    DISCONNECT = "disconnect"
    """The connection to the recogniser was lost in mid-segment."""


class SessionState(enum.StrEnum):
    """Where the session stands with its backend."""

    CONNECTING = "connecting"
    READY = "ready"
    RECONNECTING = "reconnecting"
    IDLE = "idle"
    """Nobody has spoken for a while: the place at the recogniser was given back. It
    is asked for again as soon as somebody speaks."""
    DRAINING = "draining"
    CLOSED = "closed"


@frozen(kw_only=True)
class TimedWord:
    """A word, or several that the recogniser heard as one."""

    text: str = field(repr=False)
    """With its punctuation."""
    start: float
    """Media seconds; never before the word that comes first."""
    end: float | None = None
    """Media seconds; None where it is not known (yet)."""


@frozen(kw_only=True)
class Partial:
    """The words of a segment so far; later texts of the segment begin with it."""

    segment_id: int
    """Number of the segment, counted from 0."""
    text: str = field(repr=False)
    """All words so far, joined by single spaces; grows, never changes."""
    start: float
    """Start of the first word, media seconds."""
    words: tuple[TimedWord, ...] = ()
    """The same words with their times."""


@frozen(kw_only=True)
class Final:
    """A closed segment; exactly one for each segment that had words."""

    segment_id: int
    """Number of the segment, as in its partials."""
    text: str = field(repr=False)
    """The whole text; equal to the segment's last partial."""
    start: float
    """Start of the first word, media seconds."""
    end: float
    """End of the last word, media seconds; estimated where the backend has none."""
    reason: FinalReason
    """Why the segment was closed."""
    words: tuple[TimedWord, ...] = ()
    """The words of `text` with their times."""


@frozen(kw_only=True)
class SpeechStarted:
    """Somebody began to speak."""

    at: float
    """Media seconds."""


@frozen(kw_only=True)
class Endpoint:
    """The speaker paused."""

    at: float
    """Media seconds."""
    probability: float | None = None
    """How sure the backend is, 0 to 1; None where it does not say."""


@frozen(kw_only=True)
class Gap:
    """Audio that will never be transcribed; nothing is lost without one."""

    start: float
    """Begin of the lost stretch, media seconds."""
    end: float
    """End of the lost stretch, media seconds."""
    reason: str
    """What happened, for people: `overflow` (more audio than the buffer holds, after
    a long outage), `too late` (older than `SessionOptions.max_lateness_s`) or
    `not transcribed` (the session ended or failed before)."""


@frozen(kw_only=True)
class StateChanged:
    """The session's relation to its backend changed."""

    state: SessionState
    """The new state."""
    backend: str
    """Name of the backend in use."""
    detail: str = ""
    """Why, for people; never holds secrets or speech."""


@frozen(kw_only=True)
class LanguageMismatch:
    """For a while the words have not been in the session's language."""

    expected: str
    """The session's language, such as `en`."""
    detected: str
    """The language the words seem to be in."""
    at: float
    """Media seconds."""


@frozen(kw_only=True)
class Usage:
    """What the session used; emitted once, just before it closes."""

    audio_pushed_s: float
    """Seconds of audio accepted from the caller."""
    audio_sent_s: float
    """Seconds of audio sent to the backend, fed silence included."""
    audio_processed_s: float
    """Seconds the backend reported as processed; 0 where it never reports."""
    silence_s: float
    """Seconds of silence the session fed by itself."""
    replayed_s: float
    """Seconds of audio sent again after a lost connection or a reset."""
    gap_s: float
    """Seconds reported as `Gap`."""
    connected_s: float
    """Seconds with a ready backend."""
    connections: int
    """Connections that became ready."""
    words: int
    """Words received."""


SessionEvent = (
    Partial
    | Final
    | SpeechStarted
    | Endpoint
    | Gap
    | StateChanged
    | LanguageMismatch
    | Usage
)
"""Everything that iterating a session may yield."""
