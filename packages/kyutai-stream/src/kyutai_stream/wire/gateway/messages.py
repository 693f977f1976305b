# SPDX-License-Identifier: MIT
"""What a gateway says, decoded: one value for each message of all dialects."""

from __future__ import annotations

from attrs import field, frozen

__all__ = [
    "Ack",
    "Draining",
    "End",
    "Error",
    "Flushed",
    "GatewayMessage",
    "Ping",
    "Ready",
    "Token",
    "Transcript",
    "Unknown",
    "VadEnd",
    "WasReset",
    "WordEnd",
]


@frozen(kw_only=True)
class Ready:
    """The model behind the gateway answered; only protocol 1 says so."""

    protocol: int
    """Version of the protocol."""
    delay_s: float
    """How far words are behind the audio, seconds."""
    languages: tuple[str, ...]
    """ISO 639-1 codes."""
    acks: bool
    """Whether `Ack` comes."""
    pause_horizons_s: tuple[float, ...]
    """Horizons of the probabilities in `Ack`, seconds."""


@frozen(kw_only=True)
class Token:
    """A word, or in generation 2 a piece of one."""

    text: str = field(repr=False)
    """With the leading space that it came with, if any."""
    epoch: int | None
    """Counts resets; None in older dialects, as all below."""
    index: int | None
    """Counts words of the epoch."""
    start_s: float | None
    """Seconds of client audio."""


@frozen(kw_only=True)
class Transcript:
    """Text without a type: a word, a chunk, or all of the utterance so far."""

    text: str = field(repr=False)
    """May be empty."""
    final: bool
    """Whether the utterance is complete."""
    vad_end: bool
    """Whether the speaker paused."""


@frozen(kw_only=True)
class WordEnd:
    """Where a word ended."""

    epoch: int | None
    """As in its token."""
    index: int
    """As in its token."""
    end_s: float
    """Seconds of client audio."""


@frozen(kw_only=True)
class VadEnd:
    """The speaker paused."""

    epoch: int | None
    """Counts resets; None in older dialects."""


@frozen(kw_only=True)
class Ack:
    """How far the model is."""

    epoch: int | None
    """Counts resets."""
    samples: int
    """Client samples processed in this epoch."""
    prs: tuple[float, ...]
    """Pause probabilities."""


@frozen(kw_only=True)
class Flushed:
    """A flush is done."""

    number: int | None
    """As it was asked for."""


@frozen(kw_only=True)
class WasReset:
    """A reset is done; the next epoch begins."""

    epoch: int | None
    """Number of that epoch."""


@frozen(kw_only=True)
class Ping:
    """A sign of life that every load balancer counts."""


@frozen(kw_only=True)
class Draining:
    """The gateway will close."""

    deadline_s: float
    """Seconds from now."""


@frozen(kw_only=True)
class Error:
    """Something went wrong; a close follows most of them."""

    code: str
    """Machine-readable; empty in older dialects."""
    message: str
    """For people; comes from the server."""
    retryable: bool
    """Whether the same may work later."""


@frozen(kw_only=True)
class End:
    """All words are out; the gateway closes next."""


@frozen(kw_only=True)
class Unknown:
    """A message that is not known here; to be ignored."""

    kind: str
    """Its type; empty if it has none."""


GatewayMessage = (
    Ready
    | Token
    | Transcript
    | WordEnd
    | VadEnd
    | Ack
    | Flushed
    | WasReset
    | Ping
    | Draining
    | Error
    | End
    | Unknown
)
"""Everything that `decode` returns."""
