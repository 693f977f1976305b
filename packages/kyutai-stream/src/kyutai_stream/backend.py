# SPDX-License-Identifier: MIT
"""The contract between the session and a speech-to-text backend.

A backend is two small classes. `Backend` says what it can do and opens
connections; `Connection` is ONE connection: it takes exact frames and yields
events. Reconnecting, buffering, resampling, segmentation and time-outs live once,
in the session. Call sites read `Capabilities`; they never ask for a name.

Words are append-only: what was sent as a `Word` is never taken back. A recogniser
that revises its hypothesis commits words itself before it sends them
(`kyutai_stream.core.LocalAgreement` does that). A backend with nothing to
recognise sends its notice as one ordinary `Word` and says so in
`Capabilities.transcribes`.

Times in events are seconds of audio sent on this connection since it was opened or
last reset, fed silence included; the session maps them to the caller's media time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

__all__ = [
    "Backend",
    "Capabilities",
    "ConnectRequest",
    "Connection",
    "ConnectionEvent",
    "Draining",
    "Flushed",
    "Frame",
    "Listener",
    "Pause",
    "Progress",
    "PromptConnection",
    "Ready",
    "Voice",
    "Warmable",
    "WasReset",
    "Word",
    "WordEnd",
]

Frame = npt.NDArray[np.float32]
"""Mono PCM, float32, shape `(1920,)`, -1.0 to 1.0, 24 000 Hz: 80 ms."""


@frozen(kw_only=True)
class Capabilities:
    """What a backend can do; the session adapts to these fields only."""

    languages: tuple[str, ...] = ()
    """ISO 639-1 codes it understands; empty means that language does not matter."""
    transcribes: bool = True
    """Whether its words are recognised speech; False for mere notices."""
    endpointing: bool = False
    """Whether it sends `Voice`: it then decides itself where utterances end, and
    the session does not count silence."""
    pause_horizons_s: tuple[float, ...] = ()
    """Horizons of the probabilities in `Pause`; empty if it sends none."""
    acks: bool = False
    """Whether `Progress` counts the processed frames of this connection."""
    resettable: bool = False
    """Whether `reset` is supported."""
    nominal_delay_s: float = 0.0
    """Seconds of further audio it must hear before a word can come out; the
    session feeds that much silence (and 3 frames) before it asks for a flush."""
    self_flushing: bool = False
    """Whether `request_flush` brings out the last words by itself, so that the
    session feeds no silence for it."""
    silence_prefix_s: float = 0.0
    """Seconds of silence that must come first on a new or reset connection."""
    keepalive_interval_s: float | None = None
    """Longest time without audio before `keepalive` is due; None for never."""
    max_sessions: int | None = None
    """Most connections at a time, where that is known."""
    word_times: bool = True
    """Whether the times of its words are measured; False where the backend can only
    guess them from what was sent, which is far off while a backlog is worked off."""
    punctuation: bool = False
    """Whether its words carry punctuation and case."""


@frozen(kw_only=True)
class ConnectRequest:
    """What the session wants from a new connection."""

    language: str | None = None
    """ISO 639-1 code, or None for whatever the backend assumes."""
    speaker: str = field(default="", repr=False)
    """Label of the speaker, for notices and logs on the caller's side."""


@frozen(kw_only=True)
class Ready:
    """The recogniser works; sent first, once, and only now is audio sent."""

    capabilities: Capabilities
    """What this connection can do; may be narrower than the backend's."""
    backend: str = ""
    """Name of the backend that serves it, where that is not the one that was asked
    (a fallback); the session reports it by `StateChanged`."""


@frozen(kw_only=True)
class Word:
    """A word (or several spoken as one) that will not be taken back."""

    index: int
    """Counts words from 0, per connection and reset."""
    text: str = field(repr=False)
    """Without leading space, punctuation attached; may be empty."""
    start: float
    """Seconds of audio."""


@frozen(kw_only=True)
class WordEnd:
    """The end of a word became known; may come late or never."""

    index: int
    """The `Word` it belongs to."""
    end: float
    """Seconds of audio."""


@frozen(kw_only=True)
class Pause:
    """How probable it is that no word follows soon."""

    probabilities: tuple[float, ...]
    """0 to 1, one for each horizon."""
    horizons_s: tuple[float, ...]
    """Seconds ahead."""


@frozen(kw_only=True)
class Voice:
    """Speech began, or it ended and all its words have been sent."""

    active: bool
    """True when speech began."""
    at: float
    """Seconds of audio where that happened, which is before it was noticed."""


@frozen(kw_only=True)
class Progress:
    """How far the recogniser is."""

    frames_processed: int
    """Frames of this connection processed so far."""
    lag_frames: int
    """Frames sent and not yet processed, as the backend sees it."""


@frozen(kw_only=True)
class Flushed:
    """Everything sent before the flush was processed and its words are out."""

    token: int
    """The token given to `request_flush`."""


@frozen(kw_only=True)
class WasReset:
    """The reset took place: times, frames and indexes begin at 0 again."""


@frozen(kw_only=True)
class Draining:
    """The server will close the connection on purpose."""

    deadline_s: float
    """Seconds from now."""


ConnectionEvent = (
    Ready | Word | WordEnd | Pause | Voice | Progress | Flushed | WasReset | Draining
)
"""Everything that iterating a connection may yield."""


class Connection(Protocol):
    """One connection to a recogniser.

    One task sends, another iterates, at the same time. Methods raise
    `ConnectionLost`, `ProtocolError` or `CapacityError` when the other side fails.
    Iteration ends only when the connection has ended.
    """

    async def send(self, frame: Frame) -> None:
        """Send exactly one frame.

        May wait: that is the back-pressure. A cancelled call leaves the connection
        unusable; the session then closes it.

        Args:
            frame: Mono PCM, float32, shape `(1920,)`, -1.0 to 1.0, 24 000 Hz.
        """

    async def request_flush(self, token: int) -> None:
        """Ask for `Flushed(token)` once all frames so far are done.

        The connection stays usable: the next frame simply continues the stream.
        """

    async def reset(self) -> None:
        """Ask for a fresh start, confirmed by `WasReset`.

        Raises:
            ConfigError: If the capabilities say that it cannot.
        """

    async def keepalive(self) -> None:
        """Keep an idle connection open; does nothing where none is needed."""

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        """Iterate over what the recogniser says, by one task only."""


Listener = Callable[[Sequence[ConnectionEvent]], bool]
"""Takes events as they come; returns whether it wants the next ones so, too."""


@runtime_checkable
class PromptConnection(Connection, Protocol):
    """A connection that a proxy can use without changing tasks.

    What it costs to wake a task is more than what is to be done for a frame or a
    step. Sessions do not need this; the gateway has many streams.
    """

    @property
    def writable(self) -> bool:
        """Whether `send` would not wait: it works, and the other side reads."""

    def send_now(self, frame: Frame) -> None:
        """Send exactly one frame, as `send`; only while `writable`."""

    def hand_on(self, listener: Listener) -> None:
        """Call a listener with events as they come.

        One task goes on iterating: it is told of failures and of the end, and gets
        the events that come while it does not wait for the next one or after the
        listener has returned False, always in order.

        Args:
            listener: Called by the event loop, with all events of one message. What
                it raises is raised by the iteration.
        """


@runtime_checkable
class Backend(Protocol):
    """A way to turn speech into words; stateless and shared by sessions."""

    @property
    def name(self) -> str:
        """Name as registered, for messages to people; never for decisions."""

    @property
    def description(self) -> str:
        """One line for people, honest about accuracy and purpose."""

    @property
    def capabilities(self) -> Capabilities:
        """What a connection will be able to do, as far as known beforehand."""

    def connect(
        self, request: ConnectRequest
    ) -> AbstractAsyncContextManager[Connection]:
        """Open one connection; no retries inside.

        Entering may raise `ConnectFailed`, `CapacityError`, `AuthError`,
        `ConfigError` or `BackendUnavailable`. Leaving closes at once and within a
        bound of a few seconds, also when cancelled, and leaves no task, process,
        thread or descriptor behind.
        """


@runtime_checkable
class Warmable(Protocol):
    """What a `Backend` may offer besides: to wake a server that sleeps.

    A server that costs nothing while nobody speaks takes long to start. Who knows
    that speech will come calls this beside other preparations; sessions never do.
    It may cost money as a stream does, so it is for speech that will come soon.
    """

    async def warm(self) -> bool:
        """Wake the server that `connect` would try first and wait until it is ready.

        Harmless for one that is awake. Bounded by the backend's own time-outs; may
        be cancelled, which leaves no task or connection behind.

        Returns:
            Whether it says that it is ready. False if it has been woken and is not
            ready yet, or if it has no way to tell.

        Raises:
            AuthError: If it refuses the keys.
            ConfigError: If the address is wrong.
            ConnectFailed: If it cannot be reached or does not answer in time.
        """
