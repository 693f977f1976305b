# SPDX-License-Identifier: MIT
"""One speaker as a consumer sees it: who, and their audio."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Callable
from fractions import Fraction

import anyio
import attrs
from attrs import frozen

from .._tasks import Signal
from ..errors import UsageError
from ..types import Participant
from .audio import SAMPLE_RATE, AudioChunk, FrameConverter
from .rates import RateConverter, inner_rate
from .receiver import AudioReceiver

__all__ = ["Speaker", "SpeakerStats"]

_TICKS = 48_000
"""Parts of a second in which audio is counted: whole numbers at every rate."""

_QUEUE_S = 10
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
    packets: int = 0
    """Packets received. Zero while audio arrives: it takes aiortc's own way."""
    lost: int = 0
    """Packets that did not come, or too late."""
    late: int = 0
    """Packets that came too late; they are among the lost."""
    reordered: int = 0
    """Packets that came after a later one, but in time."""
    recovered: int = 0
    """Lost packets that the one after them brought back (in-band FEC)."""
    concealed_s: float = 0.0
    """Seconds guessed from what was heard before."""
    skipped_s: float = 0.0
    """Seconds of stated silence that were not decoded."""
    errors: int = 0
    """Payloads that could not be decoded."""
    foreign: int = 0
    """Packets that are not Opus (telephone events, comfort noise, ...); dropped."""
    refused: int = 0
    """Datagrams that were no valid packet of this stream: forged, repeated,
    malformed, too long. Dropped."""
    jitter_s: float = 0.0
    """Mean deviation of the packets' spacing, seconds (RFC 3550)."""
    drift_ppm: float | None = None
    """How much slower the sender's clock is than ours; None if not known yet."""
    level_dbfs: float = -math.inf
    """Level of the latest audio, dB of full scale."""


class Speaker:
    """A participant whose audio can be heard; comes from `Call.speakers`."""

    def __init__(
        self,
        participant: Participant,
        on_listen: Callable[[Speaker], None],
        on_stop: Callable[[Speaker], None],
        *,
        reorder_wait_s: float = 0.040,
    ) -> None:
        self.session_id = participant.session_id
        self.participant = participant
        """The latest that is known of this participant: read it anew each time. Names
        may come later: HPB 2.0.2 at times tells of the call before the member."""
        self._on_listen = on_listen
        self._on_stop = on_stop
        self._chunks: deque[AudioChunk] = deque()
        self._queued = 0
        self._carried_gap = Fraction(0)
        """Seconds missing before the next chunk, besides what it says itself."""
        self._received = self._gaps = self._dropped = 0
        self._ended = False
        self._listening = False
        self._reorder_wait_s = reorder_wait_s
        self._opened: AudioReceiver | None = None
        self._converter = FrameConverter()
        """Where packets cannot be had."""
        self._rates: RateConverter | None = None
        """For a rate that nothing decodes to."""
        self._latest: AudioChunk | None = None
        self._wake = Signal()
        self._requests = 0
        self._connected = False

    def __repr__(self) -> str:
        return f"<Speaker {self.session_id[:12]}…>"

    @property
    def stats(self) -> SpeakerStats:
        """Counters so far."""
        latest = self._latest
        stats = SpeakerStats(
            received_s=self._received / _TICKS,
            gap_s=self._gaps / _TICKS,
            dropped_s=self._dropped / _TICKS,
            requests=self._requests,
            connected=self._connected,
            level_dbfs=-math.inf if latest is None else latest.level_dbfs,
        )
        if self._opened is None:
            return stats
        receiver = self._opened.stats
        return attrs.evolve(
            stats,
            packets=receiver.packets.received,
            lost=receiver.packets.lost,
            late=receiver.packets.late,
            reordered=receiver.packets.reordered,
            recovered=receiver.recovered,
            concealed_s=receiver.concealed_s,
            skipped_s=receiver.skipped_s,
            errors=receiver.errors,
            foreign=receiver.foreign,
            refused=receiver.refused,
            jitter_s=receiver.jitter_s,
            drift_ppm=receiver.drift_ppm,
        )

    async def audio(
        self, *, sample_rate: int = SAMPLE_RATE, frame_ms: float = 80
    ) -> AsyncGenerator[AudioChunk, None]:
        """Subscribe and yield the audio until the participant stops having any.

        Chunks are frames of exactly `frame_ms`; only the last one before a gap, a
        pause or the end is shorter, because silence is never invented.

        The subscription starts with the first chunk asked for and ends with the
        iteration. One consumer; one that falls more than ten seconds behind loses
        the oldest audio, which shows in `gap_samples`. Cancelling the iteration
        ends it; a new one goes on with the same timeline. To leave early and
        subscribe again at once, use `contextlib.aclosing`.

        Args:
            sample_rate: Hz. Best one of 8000, 12000, 16000, 24000 and 48000, to which
                Opus is decoded directly; others between 4000 and 192000 are resampled
                from 48000, which costs more and comes 0.4 ms later.
            frame_ms: Length of a frame, milliseconds; a whole number of samples.

        Raises:
            UsageError: If somebody else is listening already, or there are no such
                frames.
        """
        if self._listening:
            raise UsageError("this speaker's audio has a consumer already")
        self._set_format(sample_rate, frame_ms)
        self._listening = True
        self._on_listen(self)
        try:
            while True:
                while self._chunks:
                    chunk = self._chunks.popleft()
                    self._queued -= _ticks(chunk, len(chunk.samples))
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

    @property
    def _receiver(self) -> AudioReceiver:
        """One timeline for all peer connections; opened when somebody listens."""
        if self._opened is None:
            self._opened = AudioReceiver(
                self._receive, reorder_wait_s=self._reorder_wait_s
            )
        return self._opened

    def _receive(self, chunk: AudioChunk) -> None:
        """Take a chunk of the rate that is decoded to; never blocks."""
        if self._rates is None:
            self._put(chunk)
        elif (converted := self._rates.convert(chunk)) is not None:
            self._put(converted)

    def _put(self, chunk: AudioChunk) -> None:
        """Add a chunk; never blocks."""
        length = _ticks(chunk, len(chunk.samples))
        self._received += length
        self._gaps += _ticks(chunk, chunk.gap_samples)
        self._latest = chunk
        if self._carried_gap:
            chunk = _with_gap(chunk, self._carried_gap)
            self._carried_gap = Fraction(0)
        self._chunks.append(chunk)
        self._queued += length
        while self._queued > _QUEUE_S * _TICKS:
            self._drop_oldest()
        self._wake.set()

    def _drop_oldest(self) -> None:
        lost = self._chunks.popleft()
        length = _ticks(lost, len(lost.samples))
        self._queued -= length
        self._dropped += length
        missing = Fraction(len(lost.samples) + lost.gap_samples, lost.sample_rate)
        if self._chunks:
            self._chunks.appendleft(_with_gap(self._chunks.popleft(), missing))
        else:
            self._carried_gap += missing

    def _set_format(self, sample_rate: int, frame_ms: float) -> None:
        """Prepare for a new consumer."""
        _whole_samples(sample_rate, frame_ms)
        try:
            inner = inner_rate(sample_rate)
            # Flushes what is left, which still goes the way of the last consumer.
            self._receiver.set_format(inner, _whole_samples(inner, frame_ms))
        except ValueError as exc:
            raise UsageError(str(exc)) from None
        self._rates = None if inner == sample_rate else RateConverter(sample_rate)
        self._converter = FrameConverter(inner)
        while self._chunks and self._chunks[0].sample_rate != sample_rate:
            # Left over from a consumer with other wishes.
            self._drop_oldest()

    def _report(self, *, requests: int, connected: bool) -> None:
        """Note how the subscription is doing."""
        self._requests = requests
        self._connected = connected

    def _end(self) -> None:
        """There will be no more audio."""
        if self._opened is not None:
            self._opened.finish(anyio.current_time())
        self._ended = True
        self._wake.set()


def _whole_samples(sample_rate: int, frame_ms: float) -> int:
    length = sample_rate * frame_ms / 1000
    if abs(length - round(length)) > 1e-6:
        raise UsageError(
            f"{frame_ms:g} ms are no whole number of samples at {sample_rate} Hz"
        )
    return round(length)


def _ticks(chunk: AudioChunk, samples: int) -> int:
    """Samples of this chunk's rate in 1/48000 s."""
    return samples * _TICKS // chunk.sample_rate


def _with_gap(chunk: AudioChunk, more_s: Fraction) -> AudioChunk:
    """The same chunk, after a gap that is longer by so much."""
    more = math.floor(more_s * chunk.sample_rate)
    return attrs.evolve(chunk, gap_samples=chunk.gap_samples + more)
