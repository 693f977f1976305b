"""Packets that are lost or out of order: what is brought back, guessed, or missing."""

from __future__ import annotations

import numpy as np
import pytest

from spreed_signaling.media.opus import AvDecoder
from spreed_signaling.media.receiver import AudioReceiver

from .line import MS, Heard, Line, plain, play, spoken


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


def test_without_libopus_holes_are_gaps() -> None:
    heard = Heard()
    line = play(spoken(), [41], line=Line(AudioReceiver(heard.take, decoder=AvDecoder)))
    line.finish()
    assert heard.check() == 100 * 480 and heard.gaps == [480]
