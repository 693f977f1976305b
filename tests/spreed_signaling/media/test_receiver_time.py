"""Media time: samples and gaps add up, whatever the sender does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spreed_signaling.media import SAMPLE_RATE

from .line import MS, Line, plain, play, spoken
from .opus_streams import Packet


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
