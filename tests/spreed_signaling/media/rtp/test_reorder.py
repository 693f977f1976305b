"""Order of packets: what passes at once, what waits, and for how long."""

from __future__ import annotations

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from spreed_signaling.media.rtp import Released, ReorderBuffer


@define
class Packet:
    sequence_number: int
    timestamp: int = 0
    ssrc: int = 1


Buffer = ReorderBuffer[Packet]


def push(buffer: Buffer, number: int, now: float, ssrc: int = 1) -> list[int]:
    """Push one packet; the numbers that come out, a hole as a negative count."""
    packet = Packet(number & 0xFFFF, (number * 960) & 0xFFFFFFFF, ssrc)
    return shape(buffer.push(packet, now))


def shape(released: list[Released[Packet]]) -> list[int]:
    out: list[int] = []
    for one in released:
        if one.lost:
            out.append(-one.lost)
        out.append(one.packet.sequence_number)
    return out


def test_in_order_packets_pass_at_once() -> None:
    buffer = Buffer()
    for number in range(65_500, 65_600):
        assert push(buffer, number, number * 0.02) == [number & 0xFFFF]
        assert buffer.deadline(number * 0.02) is None
    assert buffer.stats.lost == buffer.stats.restarts == 0


def test_swapped_packets_are_put_right_without_loss() -> None:
    buffer = Buffer()
    assert push(buffer, 65_534, 0.0) == [65_534]
    assert push(buffer, 65_536, 0.02) == []
    assert push(buffer, 65_535, 0.025) == [65_535, 0]
    assert push(buffer, 65_537, 0.04) == [1]
    stats = buffer.stats
    assert (stats.reordered, stats.lost, stats.deepest) == (1, 0, 1)


def test_a_hole_is_given_up_at_the_deadline_and_not_before() -> None:
    buffer = Buffer()
    push(buffer, 10, 0.0)
    assert push(buffer, 12, 0.04) == []
    assert buffer.deadline(0.04) == pytest.approx(0.08)
    assert push(buffer, 13, 0.06) == []
    assert buffer.poll(0.079) == []
    assert shape(buffer.poll(0.08)) == [-1, 12, 13]
    assert buffer.deadline(0.08) is None
    # Too late now; counted, and not taken for a duplicate.
    assert push(buffer, 11, 0.09) == []
    assert push(buffer, 13, 0.09) == []
    stats = buffer.stats
    assert (stats.lost, stats.late, stats.duplicates) == (1, 1, 1)


def test_the_deadline_also_passes_with_a_later_packet() -> None:
    buffer = Buffer()
    push(buffer, 0, 0.0)
    push(buffer, 2, 0.04)
    assert push(buffer, 3, 0.09) == [-1, 2, 3]


def test_holes_one_after_the_other_have_their_own_deadlines() -> None:
    buffer = Buffer()
    push(buffer, 0, 0.0)
    push(buffer, 2, 0.04)
    push(buffer, 4, 0.07)
    assert shape(buffer.poll(0.08)) == [-1, 2]
    assert buffer.deadline(0.08) == pytest.approx(0.11)
    assert shape(buffer.poll(0.111)) == [-1, 4]


def test_a_duplicate_of_a_held_packet() -> None:
    buffer = Buffer()
    push(buffer, 0, 0.0)
    push(buffer, 2, 0.04)
    assert push(buffer, 2, 0.041) == []
    assert push(buffer, 1, 0.042) == [1, 2]
    assert buffer.stats.duplicates == 1


def test_a_network_that_sends_everything_twice() -> None:
    buffer = Buffer()
    for number in range(100):
        assert push(buffer, number, number * 0.02) == [number]
        assert push(buffer, number, number * 0.02 + 0.001) == []
    assert buffer.stats.duplicates == 100
    assert buffer.stats.restarts == 0


def test_no_more_than_sixteen_are_held() -> None:
    buffer = Buffer()
    push(buffer, 0, 0.0)
    for number in range(2, 18):
        assert push(buffer, number, 0.001) == []
    assert push(buffer, 18, 0.001) == [-1, *range(2, 19)]
    assert buffer.held == 0


def test_without_reordering_the_wait_becomes_shorter_and_grows_again() -> None:
    buffer = Buffer()
    for number in range(2_000):
        push(buffer, number, number * 0.02)
    now = 40.0
    assert buffer.wait_s(now) == 0.020
    push(buffer, 2_001, now)
    assert shape(buffer.poll(now + 0.020)) == [-1, 2_001]
    # It comes 15 ms too late: the wait is to be longer than these 35 ms.
    push(buffer, 2_000, now + 0.035)
    assert buffer.stats.late == 1
    assert buffer.wait_s(now + 1) == 0.040
    assert buffer.wait_s(now + 31) == 0.020


@pytest.mark.parametrize("wait", [-0.01, 0.061])
def test_waits_that_cannot_be(wait: float) -> None:
    with pytest.raises(ValueError, match="wait_s"):
        Buffer(wait)


def test_a_new_ssrc_and_a_jump_begin_anew_and_lose_nothing() -> None:
    buffer = Buffer()
    push(buffer, 0, 0.0)
    push(buffer, 2, 0.02)
    out = buffer.push(Packet(500, 0, 2), 0.03)
    assert shape(out) == [-1, 2, 500]
    assert [one.restarted for one in out] == [False, True]
    out = buffer.push(Packet(9_000, 0, 2), 0.04)
    assert shape(out) == [9_000] and out[0].restarted
    out = buffer.push(Packet(2_000, 0, 2), 0.05)
    assert shape(out) == [2_000] and out[0].restarted
    assert buffer.stats.restarts == 3


def test_a_stream_that_went_back_a_little_is_noticed() -> None:
    buffer = Buffer()
    for number in range(100, 120):
        push(buffer, number, 0.0)
    heard = [push(buffer, number, 0.1) for number in range(50, 70)]
    assert heard[:7] == [[]] * 7
    assert heard[7:] == [[number] for number in range(57, 70)]


def test_flush_hands_everything_out() -> None:
    buffer = Buffer()
    push(buffer, 0, 0.0)
    push(buffer, 3, 0.0)
    assert shape(buffer.flush(0.01)) == [-2, 3]
    out = buffer.push(Packet(40_000), 5.0)
    assert shape(out) == [40_000] and out[0].restarted


@given(
    st.integers(0, 0xFFFF),
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), max_size=80),
)
def test_order_and_counts_hold_on_any_network(
    start: int, plan: list[tuple[bool, int, bool]]
) -> None:
    """Each packet: lost, delayed by so many packets, sent twice."""
    arrivals: list[tuple[float, int]] = [(0.0, start)]
    for number, (lost, delay, twice) in enumerate(plan, start + 1):
        at = (number - start) * 0.02 + delay * 0.02 + delay * 0.001
        if not lost:
            arrivals += [(at, number)] * (2 if twice else 1)
    arrivals.sort()
    buffer = Buffer()
    out: list[Released[Packet]] = []
    for now, number in arrivals:
        due = buffer.deadline(now)
        if due is not None and due <= now:
            out += buffer.poll(due)
        out += buffer.push(Packet(number & 0xFFFF), now)
    stats = buffer.stats
    out += buffer.flush(99.0)
    numbers = [one.packet.sequence_number for one in out]
    # No packet twice, none out of order, and holes counted exactly.
    place = start
    for one in out[1:]:
        place += one.lost + 1
        assert one.packet.sequence_number == place & 0xFFFF
        assert not one.restarted
    assert len(set(numbers)) == len(numbers)
    stats = buffer.stats
    assert stats.received == len(arrivals)
    assert len(out) == stats.received - stats.duplicates - stats.late


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF),
            st.integers(1, 2),
            st.floats(0, 0.1, allow_nan=False),
        ),
        max_size=120,
    )
)
def test_any_packets_at_all(packets: list[tuple[int, int, float]]) -> None:
    buffer, now, out = Buffer(), 0.0, 0
    for number, ssrc, pause in packets:
        now += pause
        out += len(buffer.push(Packet(number, 0, ssrc), now))
        out += len(buffer.poll(now))
        assert buffer.held <= 16
        due = buffer.deadline(now)
        assert due is None or due > now
    out += len(buffer.flush(now))
    stats = buffer.stats
    assert out == stats.received - stats.late - stats.duplicates
