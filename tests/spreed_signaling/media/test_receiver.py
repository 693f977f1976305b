"""Packets to frames: every row of what a receive path must do, and media time."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from spreed_signaling.media import SAMPLE_RATE, AudioChunk
from spreed_signaling.media.opus import (
    AvDecoder,
    OpusDecoder,
    find_libopus,
    open_decoder,
)
from spreed_signaling.media.receiver import AudioReceiver

from .opus_streams import Floats, Packet, Stream, encode, tone, voice

FEC = {"fec": "1", "packet_loss": "20"}
MS = SAMPLE_RATE // 1000


@functools.cache
def spoken() -> Stream:
    return encode(voice(4.0), bit_rate=32_000, options=FEC)


@functools.cache
def plain() -> Stream:
    """CELT: no packet carries FEC."""
    return encode(tone(4.0), bit_rate=64_000)


@define
class Heard:
    """What came out, and when."""

    chunks: list[AudioChunk] = field(factory=list)
    times: list[float] = field(factory=list)
    now: float = 0.0

    def take(self, chunk: AudioChunk) -> None:
        self.chunks.append(chunk)
        self.times.append(self.now)

    @property
    def samples(self) -> int:
        return sum(len(chunk.samples) for chunk in self.chunks)

    @property
    def gaps(self) -> list[int]:
        return [chunk.gap_samples for chunk in self.chunks if chunk.gap_samples]

    @property
    def concealed_ms(self) -> float:
        return sum(chunk.concealed_ms for chunk in self.chunks)

    def signal(self) -> Floats:
        return np.concatenate([chunk.samples for chunk in self.chunks])

    def check(self) -> int:
        """Samples plus gaps are media time; returns where it ends."""
        position = 0
        for chunk in self.chunks:
            assert chunk.gap_samples >= 0
            position += chunk.gap_samples
            assert round(chunk.media_time_s * chunk.sample_rate) == position
            assert len(chunk.samples) > 0 and np.isfinite(chunk.samples).all()
            position += len(chunk.samples)
        return position


class Line:
    """A receiver and its timer."""

    def __init__(self, receiver: AudioReceiver | None = None) -> None:
        self.heard = Heard()
        self.receiver = AudioReceiver(self.heard.take) if receiver is None else receiver

    def wait_until(self, now: float) -> None:
        while (due := self.receiver.deadline(self.heard.now)) is not None and due < now:
            self.heard.now = max(due, self.heard.now)
            self.receiver.tick(self.heard.now)
        self.heard.now = now

    def send(self, packet: Packet, now: float) -> None:
        self.wait_until(now)
        self.receiver.receive(packet, now)

    def finish(self) -> Heard:
        self.receiver.finish(self.heard.now)
        return self.heard


def play(
    stream: Stream, lost: Sequence[int] = (), count: int = 100, line: Line | None = None
) -> Line:
    line = Line() if line is None else line
    for index in range(count):
        if index not in lost:
            line.send(stream.packet(index), index * 0.02)
    return line


def test_a_clean_stream_is_exact_frames_without_delay() -> None:
    heard = play(spoken()).heard
    assert [len(chunk.samples) for chunk in heard.chunks] == [1_920] * 25
    # Each frame comes with the very packet that completes it.
    expected = [(4 * n + 3) * 0.02 for n in range(25)]
    assert heard.times == pytest.approx(expected)
    assert heard.check() == 100 * 480
    assert heard.concealed_ms == 0 and not heard.gaps


def test_packets_of_a_frame_are_decoded_when_it_is_complete() -> None:
    """One after the other costs less; nothing waits for it."""
    decoded: list[int] = []

    class Noting(OpusDecoder):
        def decode(self, payload: bytes, out: Floats, at: int = 0) -> int:
            decoded.append(at)
            return super().decode(payload, out, at)

    library = find_libopus()
    assert library is not None
    line = Line(AudioReceiver(lambda chunk: None, decoder=partial(Noting, library)))
    counts = []
    for index in range(9):
        line.send(spoken().packet(index), index * 0.02)
        counts.append(len(decoded))
    # The first one of a stream is decoded at once.
    assert counts == [1, 1, 1, 4, 4, 4, 4, 8, 8]
    assert decoded == [0, 480, 960, 1_440] * 2
    # What waited comes out before what makes it wait no longer.
    line.send(spoken().packet(11), 0.22)
    assert len(decoded) == 9
    line.wait_until(1.0)
    assert len(decoded) == 10


def test_frames_join_without_a_seam() -> None:
    heard = play(spoken()).finish()
    decoder = open_decoder(SAMPLE_RATE)
    out = np.zeros(5_760, np.float32)
    whole = []
    for payload in spoken().payloads[:100]:
        whole.append(out[: decoder.decode(payload, out)].copy())
    assert np.array_equal(heard.signal(), np.concatenate(whole))


def test_what_is_left_of_a_frame_comes_when_packets_stop() -> None:
    line = play(spoken(), count=6)
    assert line.heard.samples == 1_920
    line.wait_until(1.0)
    assert line.heard.samples == 6 * 480
    assert line.heard.times[-1] == pytest.approx(0.1 + 0.06)
    line.send(spoken().packet(6), 1.0)
    assert line.finish().check() == 7 * 480 and not line.heard.gaps


@pytest.mark.parametrize("stream", [spoken, plain])
def test_one_lost_packet(stream: object) -> None:
    assert callable(stream)
    heard = play(stream(), lost=[41]).finish()
    assert heard.samples == heard.check() == 100 * 480
    assert heard.concealed_ms == pytest.approx(20) and not heard.gaps
    # The longest pause between two frames: wait, packet, frame.
    assert max(np.diff(heard.times)) <= 0.08 + 0.08
    # Nothing is late any more afterwards.
    assert heard.times[-2] == pytest.approx(24 * 0.08 - 0.02)


def test_fec_or_concealment_is_counted_as_what_it_is() -> None:
    with_fec, without = play(spoken(), lost=[41]), play(plain(), lost=[41])
    assert with_fec.receiver.stats.recovered == 1
    assert with_fec.receiver.stats.recovered_s == pytest.approx(0.02)
    assert with_fec.receiver.stats.concealed_s == 0
    assert without.receiver.stats.recovered == 0
    assert without.receiver.stats.concealed_s == pytest.approx(0.02)


def test_five_percent_lost_and_all_that_came_is_used() -> None:
    lost = range(10, 100, 20)
    line = play(spoken(), lost=lost)
    heard = line.finish()
    assert heard.samples == heard.check() == 100 * 480
    assert heard.concealed_ms == pytest.approx(20 * len(lost))
    stats = line.receiver.stats
    assert stats.packets.lost == len(lost) and stats.packets.late == 0


def test_three_lost_in_a_row() -> None:
    heard = play(spoken(), lost=[40, 41, 42]).finish()
    assert heard.samples == heard.check() == 100 * 480
    assert heard.concealed_ms == pytest.approx(60) and not heard.gaps


@pytest.mark.parametrize(("stream", "known"), [(spoken, 20), (plain, 0)])
def test_a_long_hole_is_concealed_for_100_ms_and_then_a_gap(
    stream: object, known: int
) -> None:
    assert callable(stream)
    heard = play(stream(), lost=range(31, 51)).finish()
    assert heard.check() == 100 * 480
    assert heard.concealed_ms == pytest.approx(100 + known)
    assert heard.gaps == [(300 - known) * MS]


def test_two_packets_swapped() -> None:
    line = Line()
    order = [0, 1, 2, 4, 3, 5, 6, 7]
    for place, index in enumerate(order):
        line.send(spoken().packet(index), place * 0.02)
    clean = play(spoken(), count=8).finish()
    assert np.array_equal(line.finish().signal(), clean.signal())
    assert line.heard.concealed_ms == 0
    assert line.receiver.stats.packets.reordered == 1


def test_a_pause_of_the_sender_is_a_gap_and_no_loss() -> None:
    line = play(spoken(), count=50)
    for index in range(50, 60):
        packet = spoken().packet(index)
        packet.timestamp = (packet.timestamp + 19 * 960) & 0xFFFFFFFF
        line.send(packet, index * 0.02 + 0.38)
    heard = line.finish()
    assert heard.gaps == [380 * MS] and heard.check() == 79 * 480
    assert line.receiver.stats.packets.lost == 0
    assert heard.concealed_ms == 0


@pytest.mark.parametrize("jump", [11 * 48_000, -48_000, 2**31, 2**31 + 7])
def test_timestamps_that_begin_anew_go_on_by_the_clock(jump: int) -> None:
    line = play(spoken(), count=50)
    for index in range(50, 60):
        packet = spoken().packet(index)
        packet.timestamp = (packet.timestamp + jump) & 0xFFFFFFFF
        line.send(packet, index * 0.02 + 0.5)
    heard = line.finish()
    assert heard.gaps == [500 * MS]
    assert heard.check() == 60 * 480 + 500 * MS


def test_a_new_ssrc_goes_on_by_the_clock() -> None:
    line = play(spoken(), count=50)
    for index in range(10):
        packet = spoken().packet(index, seq0=7, ts0=9)
        packet.ssrc = 2
        line.send(packet, 2.0 + index * 0.02)
    heard = line.finish()
    assert heard.gaps == [round(1.0 * SAMPLE_RATE)]
    assert heard.check() == 60 * 480 + heard.gaps[0]
    assert line.receiver.stats.packets.restarts == 1


def test_a_new_connection_goes_on_by_the_clock() -> None:
    line = play(spoken(), count=50)
    line.receiver.finish(1.0)
    for index in range(10):
        line.send(spoken().packet(index, seq0=900, ts0=50), 3.0 + index * 0.02)
    assert line.finish().gaps == [2 * SAMPLE_RATE]


@pytest.mark.parametrize("overlap", [960, 480, 961, 7, 5_000])
def test_audio_that_was_heard_already_is_not_heard_twice(overlap: int) -> None:
    line = play(spoken(), count=50)
    for index in range(50, 70):
        packet = spoken().packet(index)
        packet.timestamp = (packet.timestamp - overlap) & 0xFFFFFFFF
        line.send(packet, index * 0.02)
    end = line.finish().check()
    assert abs(end - (70 * 480 - overlap / 2)) <= 1


def test_padding_has_a_number_but_no_time() -> None:
    line = Line()
    for index in range(20):
        packet = spoken().packet(index, seq0=index // 5)
        line.send(packet, index * 0.02)
        if index % 5 == 4:
            padding = spoken().packet(index, seq0=index // 5 + 1)
            padding.payload = b""
            line.send(padding, index * 0.02)
    heard = line.finish()
    assert heard.samples == heard.check() == 20 * 480
    assert heard.concealed_ms == 0
    assert line.receiver.stats.errors == 0


def test_invalid_payloads_are_counted_and_keep_their_time() -> None:
    line = Line()
    for index in range(40):
        packet = spoken().packet(index)
        if index in (20, 21):
            packet.payload = b"\xff\xff\xff"
        line.send(packet, index * 0.02)
    heard = line.finish()
    assert line.receiver.stats.errors == 2
    assert heard.check() == 40 * 480
    assert heard.concealed_ms == pytest.approx(40)


def test_other_payload_types_are_dropped() -> None:
    line = Line()
    line.receiver.payload_types = frozenset({111})
    for index in range(20):
        packet = spoken().packet(index)
        if index % 2:
            packet.payload_type = 0
        line.send(packet, index * 0.02)
    assert line.receiver.stats.foreign == 10


def test_levels_and_loudness() -> None:
    line = Line()
    for index in range(16):
        packet = plain().packet(index)
        packet.audio_level = index - 60
        line.send(packet, index * 0.02)
    chunks = line.heard.chunks
    assert [chunk.audio_level for chunk in chunks] == [-57, -53, -49, -45]
    # A tone of 0.4: -8 dB of full scale, and 3 dB less as a mean.
    assert chunks[3].level_dbfs == pytest.approx(-10.97, abs=0.5)
    assert AudioChunk(
        samples=np.zeros(3, np.float32), media_time_s=0
    ).level_dbfs == -float("inf")


@pytest.mark.parametrize("rate", [8_000, 12_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("frame_ms", [10, 20, 30, 80, 200])
def test_other_rates_and_frames(rate: int, frame_ms: int) -> None:
    heard = Heard()
    frame = rate * frame_ms // 1000
    receiver = AudioReceiver(heard.take, sample_rate=rate, frame_samples=frame)
    line = play(spoken(), lost=[30], line=Line(receiver))
    line.heard = heard
    line.finish()
    assert {len(chunk.samples) for chunk in heard.chunks[:-1]} == {frame}
    assert heard.check() == 2 * rate
    assert heard.concealed_ms == pytest.approx(20)


def test_changing_the_format_goes_on_in_the_same_time() -> None:
    line = play(spoken(), count=10)
    line.receiver.set_format(48_000, 480)
    for index in range(10, 20):
        line.send(spoken().packet(index), index * 0.02)
    chunks = line.finish().chunks
    assert chunks[2].media_time_s + len(chunks[2].samples) / 24_000 == 0.2
    assert [chunk.media_time_s for chunk in chunks[3:5]] == pytest.approx([0.2, 0.21])
    with pytest.raises(ValueError, match="sample_rate"):
        line.receiver.set_format(44_100, 480)
    with pytest.raises(ValueError, match="frame"):
        line.receiver.set_format(48_000, 0)


def test_without_libopus_holes_are_gaps() -> None:
    heard = Heard()
    line = play(spoken(), [41], line=Line(AudioReceiver(heard.take, decoder=AvDecoder)))
    line.finish()
    assert heard.check() == 100 * 480 and heard.gaps == [480]


class TestSilence:
    def stream(self) -> Stream:
        silence = np.zeros(3 * 48_000, np.float32)
        return encode(np.concatenate([voice(1.0), silence, voice(1.0)]))

    def run(self, stream: Stream, levels: Sequence[int], *, skip: bool) -> Line:
        heard = Heard()
        line = Line(AudioReceiver(heard.take, skip_silence=skip))
        line.heard = heard
        for index, level in enumerate(levels):
            packet = stream.packet(index)
            packet.audio_level = -level
            line.send(packet, index * 0.02)
        line.finish()
        return line

    def test_long_stated_silence_is_not_decoded(self) -> None:
        stream = self.stream()
        # Two packets longer than it is silent: the codec's own delay.
        levels = [30] * 52 + [127] * 148 + [30] * 49
        thrifty = self.run(stream, levels, skip=True)
        full = self.run(stream, levels, skip=False)
        assert thrifty.heard.check() == full.heard.check() == 249 * 480
        assert full.receiver.stats.skipped_s == 0
        assert thrifty.receiver.stats.skipped_s > 2.2
        # The speech after it is what it would have been.
        after = slice(202 * 480, None)
        difference = thrifty.heard.signal()[after] - full.heard.signal()[after]
        assert np.sqrt(np.mean(difference**2)) < 0.003

    def test_a_level_that_lies_is_not_believed(self) -> None:
        stream = encode(voice(5.0))
        thrifty = self.run(stream, [127] * 249, skip=True)
        full = self.run(stream, [127] * 249, skip=False)
        assert thrifty.receiver.stats.skipped_s == 0
        assert np.array_equal(thrifty.heard.signal(), full.heard.signal())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.data())
def test_samples_and_gaps_are_media_time(seed: int, data: st.DataObject) -> None:
    """Random loss, duplication, reordering, pauses and wraps."""
    rng = random.Random(seed)
    loss = data.draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9]))
    stream = data.draw(st.sampled_from([spoken(), plain()]))
    arrivals: list[tuple[float, Packet]] = []
    jump = 0
    for index in range(100):
        if index and rng.random() < 0.05:
            jump += rng.randrange(30_000)
        packet = stream.packet(index, seq0=seed & 0xFFFF, ts0=seed + jump)
        late = rng.choice([0.0, 0.0, 0.0, 0.015, 0.03, 0.05, 0.2])
        at = index * 0.02 + jump / 48_000 + (late if index else 0)
        if rng.random() >= loss or index in (0, 99):
            arrivals += [(at, packet)] * rng.choice([1, 1, 1, 2])
    arrivals.sort(key=lambda one: one[0])
    line = Line()
    for at, packet in arrivals:
        line.send(packet, at)
    line.wait_until(line.heard.now + 1)
    last = stream.packet(99, seq0=seed & 0xFFFF, ts0=seed + jump)
    line.send(last, line.heard.now)
    end = line.finish().check()
    assert line.receiver.stats.packets.restarts == 0
    span = (99 * 960 + jump) // 2 + 480
    # A packet further than 10 s away would begin anew; none is.
    assert abs(end - span) <= 1
    received = line.receiver.stats.packets
    used = received.received - received.late - received.duplicates
    concealed = line.receiver.stats.concealed_s + line.receiver.stats.recovered_s
    assert line.heard.samples == used * 480 + round(concealed * SAMPLE_RATE)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF),
            st.integers(0, 2**32 - 1),
            st.integers(1, 2),
            st.binary(max_size=80),
            st.floats(0, 0.3),
            st.none() | st.integers(0, 127),
        ),
        max_size=60,
    ),
    st.booleans(),
)
def test_any_packets_at_all(
    packets: list[tuple[int, int, int, bytes, float, int | None]], plausible: bool
) -> None:
    line, now = Line(), 0.0
    for index, (number, timestamp, ssrc, payload, pause, level) in enumerate(packets):
        now += pause
        if plausible:
            number, timestamp, ssrc = index + number % 3, 960 * index + timestamp % 3, 1
        packet = Packet(number, timestamp, payload, ssrc)
        if level is not None:
            packet.audio_level = -level
        line.send(packet, now)
    line.finish().check()
