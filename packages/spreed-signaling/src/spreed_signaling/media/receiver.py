# SPDX-License-Identifier: MIT
"""From RTP packets to frames of audio: sans-I/O, time is an argument.

Order, concealment, decoding and framing of one speaker, across peer connections.
Samples and announced gaps add up to media time, whatever the network does; nothing
that a packet holds makes it raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .audio import SAMPLE_RATE, AudioChunk
from .frames import Framer
from .opus import Decoder, open_decoder
from .receiver_stats import Counters, ReceiverStats
from .rtp.opus_packet import LONGEST_TICKS, read_packet, read_ticks
from .rtp.reorder import Released, ReorderBuffer, RtpLike
from .rtp.timing import StreamTiming
from .silence import SILENT, Silence

__all__ = ["AudioPacket", "AudioReceiver", "ReceiverStats"]

_RATE = 48_000
"""Hz, the RTP clock of Opus."""

_USUAL_TICKS = 960
"""20 ms: taken for the length of a packet that does not tell."""

_CONCEALED_TICKS = 4_800
"""100 ms: libopus's concealment has faded to nothing after about that."""

_STEP_TICKS = 120
"""2.5 ms: libopus conceals and recovers multiples of it only."""

_LONGEST_JUMP_TICKS = 10 * _RATE
"""A jump beyond is a sender that counts anew: arrival tells what is missing."""

_PAUSE_S = 0.060
"""Without packets for so long, what there is of a frame is handed out."""


class AudioPacket(RtpLike, Protocol):
    """What is read of an audio packet; `AudioRtp` fits."""

    payload_type: int
    payload: bytes
    audio_level: int | None
    """dBov, -127 to 0; None if the sender states none."""


class AudioReceiver:
    """Receives one speaker.

    Args:
        emit: Gets every frame; must not raise.
        sample_rate: One of `opus.RATES`, Hz.
        frame_samples: Length of a frame.
        reorder_wait_s: See `ReorderBuffer`.
        skip_silence: Whether long silence that the sender states is not decoded.
        decoder: Opens a decoder for a rate.

    Raises:
        ValueError: If rate, length or wait cannot be.
    """

    def __init__(
        self,
        emit: Callable[[AudioChunk], None],
        *,
        sample_rate: int = SAMPLE_RATE,
        frame_samples: int = 1_920,
        reorder_wait_s: float = 0.040,
        skip_silence: bool = True,
        decoder: Callable[[int], Decoder] = open_decoder,
    ) -> None:
        self.payload_types: frozenset[int] | None = None
        """Those that are Opus; None takes all."""
        self._emit = emit
        self._open = decoder
        self._order: ReorderBuffer[AudioPacket] = ReorderBuffer(reorder_wait_s)
        self._timing = StreamTiming()
        self._framer = Framer(
            emit, sample_rate=sample_rate, frame_samples=frame_samples
        )
        self._decoder = decoder(sample_rate)
        self._skip_silence = skip_silence
        self._counters = Counters()
        self._silence = Silence(self._decoder, self._framer.step, self._counters)
        self._expected: int | None = None
        self._pending: list[tuple[AudioPacket, float]] = []
        """In their place, one right after the other, with their arrival: the beginning
        of a frame, decoded together when it is complete, because the decoder's code and
        tables are in the processor's cache only then."""
        self._pending_ticks = 0
        self._arrived_at: float | None = None
        self._heard_at: float | None = None
        self._lost = 0
        self._concealed_run = 0

    @property
    def stats(self) -> ReceiverStats:
        """Counters so far."""
        counters = self._counters
        return ReceiverStats(
            packets=self._order.stats,
            recovered=counters.recovered,
            recovered_s=counters.recovered_ticks / _RATE,
            concealed_s=counters.concealed_ticks / _RATE,
            skipped_s=counters.skipped_ticks / _RATE,
            errors=counters.errors,
            foreign=counters.foreign,
            refused=counters.refused,
            jitter_s=self._timing.jitter_s,
            drift_ppm=self._timing.drift_ppm,
        )

    def set_format(self, sample_rate: int, frame_samples: int) -> None:
        """Hand out other frames from now on; media time goes on.

        Raises:
            ValueError: If rate or length cannot be.
        """
        self._catch_up()
        self._framer.flush()
        framer = Framer(
            self._emit,
            sample_rate=sample_rate,
            frame_samples=frame_samples,
            start_ticks=self._framer.ticks,
        )
        self._decoder.close()
        self._decoder = self._open(sample_rate)
        self._silence = Silence(self._decoder, framer.step, self._counters)
        self._framer = framer

    def receive(self, packet: AudioPacket, now: float) -> None:
        """Take a packet; emits what is complete. Never raises."""
        allowed = self.payload_types
        if allowed is not None and packet.payload_type not in allowed:
            self._counters.foreign += 1
            return
        self._arrived_at = now
        self._timing.observe(packet.timestamp, now)
        if self._order.passes(packet):
            if not self._may_wait(packet, now):
                self._catch_up()
                self._take(packet, now)
            return
        self._catch_up()
        self._take_all(self._order.push(packet, now))

    def _may_wait(self, packet: AudioPacket, now: float) -> bool:
        """Put a packet off that goes on where we are and completes no frame."""
        expected = self._expected
        before = self._pending_ticks
        if expected is None or packet.timestamp != (expected + before) & 0xFFFFFFFF:
            return False
        ticks = read_ticks(packet.payload)
        if not ticks or before + ticks >= self._framer.missing_ticks:
            return False
        self._pending.append((packet, now))
        self._pending_ticks = before + ticks
        return True

    def _catch_up(self) -> None:
        """Decode what was put off."""
        if self._pending:
            pending, self._pending = self._pending, []
            self._pending_ticks = 0
            for packet, arrival in pending:
                self._take(packet, arrival)

    def _take_all(self, released: list[Released[AudioPacket]]) -> None:
        for one in released:
            self._take(one.packet, one.arrival, one.lost, one.restarted)

    def refuse(self) -> None:
        """A datagram was no packet."""
        self._counters.refused += 1

    @property
    def has_hole(self) -> bool:
        """Whether packets wait for an earlier one."""
        return self._order.held > 0

    def add_decoded(self, chunk: AudioChunk, now: float) -> None:
        """Take audio that was decoded elsewhere, at our rate, into the timeline."""
        self._arrived_at = self._heard_at = now
        self._catch_up()
        self._framer.skip(chunk.gap_samples * self._framer.step)
        self._framer.add(chunk.samples)

    def tick(self, now: float) -> None:
        """Do what is due: give up holes, hand out the frame before a pause."""
        self._take_all(self._order.poll(now))
        if self._has_part and self._arrived_at is not None:
            if now >= self._arrived_at + _PAUSE_S:
                self._catch_up()
                self._framer.flush()

    @property
    def _has_part(self) -> bool:
        """Whether there is something of a frame that is not complete."""
        return bool(self._framer.fill or self._pending)

    def deadline(self, now: float) -> float | None:
        """When `tick` is due, seconds of the caller's clock; None if nothing waits."""
        due = self._order.deadline(now)
        if self._has_part and self._arrived_at is not None:
            pause_at = self._arrived_at + _PAUSE_S
            return pause_at if due is None else min(due, pause_at)
        return due

    def finish(self, now: float) -> None:
        """The stream ends: hand out everything. The next packet begins a new one."""
        self._catch_up()
        self._take_all(self._order.flush(now))
        self._framer.flush()
        self._timing.restart()
        self._expected = None

    def _take(
        self,
        packet: AudioPacket,
        arrival: float,
        lost: int = 0,
        restarted: bool = False,
    ) -> None:
        """Decode a packet in its place; the arguments are those of `Released`."""
        payload = packet.payload
        self._lost += lost
        if not payload:
            # Padding: it has a number, but no time of its own.
            return
        stated = read_ticks(payload)
        level = packet.audio_level
        if level != SILENT:
            self._silence.end()
        overlap = 0
        if restarted or self._expected is None:
            self._begin(arrival, stated)
        elif packet.timestamp != self._expected:
            overlap = self._bridge(packet, arrival, stated, self._expected)
        self._lost = 0
        self._heard_at = arrival
        ticks = self._play(payload, stated, level, overlap)
        if ticks > overlap:
            self._expected = (packet.timestamp + ticks) & 0xFFFFFFFF

    def _bridge(
        self, packet: AudioPacket, arrival: float, stated: int, expected: int
    ) -> int:
        """Fill or announce what is missing; returns ticks that were heard already."""
        distance = (packet.timestamp - expected) & 0xFFFFFFFF
        missing = ((distance + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        if not -LONGEST_TICKS <= missing <= _LONGEST_JUMP_TICKS:
            self._begin(arrival, stated)
            return 0
        if missing < 0:
            return -missing
        if missing and self._lost:
            self._conceal(missing, packet.payload)
        elif missing:
            # All packets are here: the sender paused (DTX, RFC 7587, section 3.1.3).
            self._framer.skip(missing)
        return 0

    def _begin(self, arrival: float, stated: int) -> None:
        """A stream with timestamps of its own: the clock tells what is missing."""
        self._decoder.reset()
        self._concealed_run = 0
        self._timing.restart()
        if self._heard_at is None:
            return
        passed = round((arrival - self._heard_at) * _RATE)
        self._framer.skip(max(0, passed - (stated or _USUAL_TICKS)))

    def _conceal(self, missing: int, following: bytes) -> None:
        """Bridge lost packets: guess, then a gap, then what FEC still knows."""
        known = read_packet(following).fec_ticks
        if known > missing or not self._decoder.can_conceal:
            known = 0
        left = missing - known - self._guess(missing - known)
        self._framer.skip(left)
        if known:
            framer = self._framer
            samples = known // framer.step
            got = self._decoder.recover(following, framer.buffer, samples, framer.fill)
            if got == samples:
                self._counters.recovered += 1
                self._counters.recovered_ticks += known
                self._framer.wrote(got, concealed=True)
            else:
                self._framer.skip(known)

    def _guess(self, missing: int) -> int:
        """Let the decoder go on by itself; returns the ticks that it did."""
        most = min(missing, _CONCEALED_TICKS - self._concealed_run)
        ticks = most // _STEP_TICKS * _STEP_TICKS
        if ticks <= 0 or not self._decoder.can_conceal:
            return 0
        framer = self._framer
        samples = ticks // framer.step
        if self._decoder.conceal(framer.buffer, samples, framer.fill) != samples:
            return 0
        self._framer.wrote(samples, concealed=True)
        self._concealed_run += ticks
        self._counters.concealed_ticks += ticks
        return ticks

    def _play(
        self, payload: bytes, stated: int, level: int | None, overlap: int
    ) -> int:
        """Decode a packet into its place; returns its duration in ticks."""
        framer = self._framer
        silent = level == SILENT and self._skip_silence and stated > 0
        if silent and self._silence.begin(stated):
            samples = self._silence.write(payload, stated, framer.buffer, framer.fill)
        else:
            samples = self._decoder.decode(payload, framer.buffer, framer.fill)
        if samples <= 0:
            return self._play_nothing(stated, overlap)
        self._concealed_run = 0
        ticks = samples * framer.step
        if overlap:
            samples = self._trim(samples, overlap)
        if samples:
            framer.wrote(samples, level=level)
        return ticks

    def _play_nothing(self, stated: int, overlap: int) -> int:
        """A payload that cannot be decoded has a duration nevertheless."""
        self._counters.errors += 1
        ticks = stated or _USUAL_TICKS
        missing = max(0, ticks - overlap)
        self._framer.skip(missing - self._guess(missing))
        return ticks

    def _trim(self, samples: int, overlap: int) -> int:
        """Drop what was heard before; returns what is left."""
        framer = self._framer
        heard = min(samples, -(-overlap // framer.step))
        at = framer.fill
        rest = framer.buffer[at + heard : at + samples].copy()
        if len(rest):
            # An odd overlap: the part of a sample goes into the next gap.
            framer.skip(heard * framer.step - overlap)
            framer.buffer[framer.fill : framer.fill + len(rest)] = rest
        return len(rest)
