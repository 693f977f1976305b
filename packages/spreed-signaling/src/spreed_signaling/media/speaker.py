# SPDX-License-Identifier: MIT
"""One speaker as a consumer sees it: who, and their audio."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable

import attrs
from attrs import frozen

from .._tasks import Signal
from ..errors import UsageError
from ..types import Participant
from .audio import SAMPLE_RATE, AudioChunk, FrameConverter

__all__ = ["Speaker", "SpeakerStats"]

_QUEUE_S = 10.0
"""Seconds of audio that may wait for a slow consumer. Beyond it the oldest is
dropped, counted, and shows up as `gap_samples` of the next chunk."""


@frozen(kw_only=True)
class SpeakerStats:
    """Counters of one speaker."""

    received_s: float
    """Seconds of audio received."""
    gap_s: float
    """Seconds missing on the way to us."""
    dropped_s: float
    """Seconds given up because the consumer was too slow."""
    requests: int
    """Offers requested from the server; more than one means trouble."""
    connected: bool
    """Whether media can flow now."""


class Speaker:
    """A participant whose audio can be heard; comes from `Call.speakers`."""

    def __init__(
        self,
        participant: Participant,
        on_listen: Callable[[Speaker], None],
        on_stop: Callable[[Speaker], None],
    ) -> None:
        self.session_id = participant.session_id
        self.participant = participant
        """The latest that is known of this participant."""
        self._on_listen = on_listen
        self._on_stop = on_stop
        self._chunks: deque[AudioChunk] = deque()
        self._queued = 0
        self._carried_gap = 0
        self._received = self._gaps = self._dropped = 0
        self._ended = False
        self._listening = False
        self._converter = FrameConverter()
        """One timeline for all peer connections (used by the subscription)."""
        self._wake = Signal()
        self._requests = 0
        self._connected = False

    def __repr__(self) -> str:
        return f"<Speaker {self.session_id[:12]}…>"

    @property
    def stats(self) -> SpeakerStats:
        """Counters so far."""
        return SpeakerStats(
            received_s=self._received / SAMPLE_RATE,
            gap_s=self._gaps / SAMPLE_RATE,
            dropped_s=self._dropped / SAMPLE_RATE,
            requests=self._requests,
            connected=self._connected,
        )

    async def audio(self) -> AsyncGenerator[AudioChunk, None]:
        """Subscribe and yield the audio until the participant stops having any.

        The subscription starts with the first chunk asked for and ends with the
        iteration. One consumer; one that falls more than ten seconds behind loses
        the oldest audio, which shows in `gap_samples`. Cancelling the iteration
        ends it; a new one goes on with the same timeline. To leave early and
        subscribe again at once, use `contextlib.aclosing`.

        Raises:
            UsageError: If somebody else is listening already.
        """
        if self._listening:
            raise UsageError("this speaker's audio has a consumer already")
        self._listening = True
        self._on_listen(self)
        try:
            while True:
                while self._chunks:
                    chunk = self._chunks.popleft()
                    self._queued -= len(chunk.samples)
                    yield chunk
                if self._ended:
                    return
                await self._wake.wait()
        finally:
            self._listening = False
            self._on_stop(self)
            while self._chunks:
                # Nobody wants it now; a later consumer starts with what is new.
                self._drop_oldest()

    # For the subscription.

    def _put(self, chunk: AudioChunk) -> None:
        """Add a chunk; never blocks."""
        self._received += len(chunk.samples)
        self._gaps += chunk.gap_samples
        if self._carried_gap:
            gap = chunk.gap_samples + self._carried_gap
            chunk = attrs.evolve(chunk, gap_samples=gap)
            self._carried_gap = 0
        self._chunks.append(chunk)
        self._queued += len(chunk.samples)
        while self._queued > _QUEUE_S * SAMPLE_RATE:
            self._drop_oldest()
        self._wake.set()

    def _drop_oldest(self) -> None:
        lost = self._chunks.popleft()
        self._queued -= len(lost.samples)
        self._dropped += len(lost.samples)
        missing = lost.gap_samples + len(lost.samples)
        if self._chunks:
            first = self._chunks.popleft()
            gap = first.gap_samples + missing
            self._chunks.appendleft(attrs.evolve(first, gap_samples=gap))
        else:
            self._carried_gap += missing

    def _report(self, *, requests: int, connected: bool) -> None:
        """Note how the subscription is doing."""
        self._requests = requests
        self._connected = connected

    def _end(self) -> None:
        """There will be no more audio."""
        self._ended = True
        self._wake.set()
