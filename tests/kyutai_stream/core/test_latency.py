from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream.core import ArrivalClock, Delays


def summed(values: list[float]) -> Delays:
    delays = Delays()
    for value in values:
        delays.add(value)
    return delays


class TestDelays:
    def test_nothing_measured_is_not_a_number(self) -> None:
        summary = Delays().summary()
        assert summary.count == 0
        for value in (summary.mean_s, summary.p50_s, summary.p99_s, summary.max_s):
            assert math.isnan(value)

    def test_one_measurement_is_all_of_them(self) -> None:
        summary = summed([0.3]).summary()
        assert summary.count == 1
        for value in (summary.mean_s, summary.p50_s, summary.p99_s, summary.max_s):
            assert value == pytest.approx(0.3)

    def test_known_percentiles(self) -> None:
        summary = summed([i / 100 for i in range(1, 101)]).summary()
        assert summary.mean_s == pytest.approx(0.505)
        assert summary.p50_s == pytest.approx(0.50, rel=0.05)
        assert summary.p95_s == pytest.approx(0.95, rel=0.05)
        assert summary.p99_s == pytest.approx(0.99, rel=0.05)
        assert summary.max_s == 1.0

    def test_a_clock_that_stepped_back_counts_as_no_delay(self) -> None:
        summary = summed([-3.0]).summary()
        assert (summary.count, summary.mean_s, summary.p50_s) == (1, 0.0, 0.0)

    def test_the_largest_stays_exact_out_of_range(self) -> None:
        summary = summed([9_000.0]).summary()
        assert summary.max_s == 9_000.0
        assert summary.p50_s >= 150

    @settings(deadline=None)
    @given(st.lists(st.floats(0.0, 180.0), min_size=1, max_size=200))
    def test_percentiles_are_right_within_5_percent(self, values: list[float]) -> None:
        summary = summed(values).summary()
        ordered = sorted(values)
        figures = ((0.5, summary.p50_s), (0.95, summary.p95_s), (0.99, summary.p99_s))
        for share, found in figures:
            true = ordered[math.ceil(share * len(ordered)) - 1]
            # Below a millisecond nobody asks for more.
            assert true * (1 - 1e-9) <= found <= max(true * 1.05 * (1 + 1e-9), 0.001)
        assert summary.p50_s <= summary.p95_s <= summary.p99_s <= summary.max_s
        assert summary.mean_s == pytest.approx(sum(values) / len(values))


class TestArrivalClock:
    def test_nothing_is_known_before_it_came(self) -> None:
        assert ArrivalClock().at(0.0) is None

    def test_when_audio_came(self) -> None:
        clock = ArrivalClock()
        for step in range(1, 101):
            clock.admitted(step * 0.1, 1000 + step * 0.1)
        assert clock.at(5.05) == pytest.approx(1005.1)
        assert clock.at(5.0) == pytest.approx(1005.0)
        assert clock.at(0.0) == pytest.approx(1000.1)
        assert clock.at(10.01) is None

    def test_small_pieces_are_known_within_a_step(self) -> None:
        clock = ArrivalClock()
        for step in range(1, 1001):
            clock.admitted(step * 0.02, step * 0.02)
        for at in (0.5, 3.33, 19.0):
            found = clock.at(at)
            assert found is not None
            assert at <= found <= at + 0.08 + 0.02

    def test_audio_that_came_at_once_came_at_once(self) -> None:
        clock = ArrivalClock()
        clock.admitted(30.0, 5.0)
        assert clock.at(0.1) == clock.at(29.9) == 5.0

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(st.floats(0.08, 2.0), st.floats(0.0, 5.0)), min_size=1, max_size=9
        ),
        st.floats(0.0, 1.0),
    )
    def test_it_came_with_the_first_piece_that_reaches_it(
        self, pieces: list[tuple[float, float]], share: float
    ) -> None:
        clock = ArrivalClock()
        known = []
        media, now = 0.0, 0.0
        for seconds, passing in pieces:
            media += seconds + 0.001
            now += passing
            clock.admitted(media, now)
            known.append((media, now))
        at = share * media
        assert clock.at(at) == next(when for end, when in known if end >= at)
