"""Packets to frames: what a receive path must do with each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spreed_signaling.media import SAMPLE_RATE, AudioChunk
from spreed_signaling.media.opus import OpusDecoder, find_libopus, open_decoder
from spreed_signaling.media.receiver import AudioReceiver

from .line import Heard, Line, plain, play, spoken
from .opus_streams import Floats, Packet, Stream, encode, voice


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
