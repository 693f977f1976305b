"""Losses become as few gaps as possible, and none is held back for long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream import Gap
from kyutai_stream.session._gaps import LONGEST_S, GapKeeper


def test_neighbours_are_one() -> None:
    keeper = GapKeeper()
    assert keeper.lose(1.0, 2.0, "overflow") == []
    assert keeper.lose(2.0, 2.5, "overflow") == []
    assert keeper.is_open and keeper.reason == "overflow"
    assert keeper.close() == [Gap(start=1.0, end=2.5, reason="overflow")]
    assert keeper.close() == []
    assert not keeper.is_open and keeper.reason == ""
    assert keeper.total_s == pytest.approx(1.5)


def test_another_place_or_reason_is_another_gap() -> None:
    keeper = GapKeeper()
    keeper.lose(1.0, 2.0, "overflow")
    assert keeper.lose(3.0, 4.0, "overflow") == [
        Gap(start=1.0, end=2.0, reason="overflow")
    ]
    assert keeper.lose(4.0, 5.0, "too late") == [
        Gap(start=3.0, end=4.0, reason="overflow")
    ]
    assert keeper.close() == [Gap(start=4.0, end=5.0, reason="too late")]


def test_less_than_a_sample_is_rounding() -> None:
    keeper = GapKeeper()
    assert keeper.lose(1.0, 1.00001, "overflow") == []
    assert keeper.lose(2.0, 1.0, "overflow") == []
    assert not keeper.is_open
    assert keeper.total_s == 0


def test_a_loss_that_goes_on_is_told_while_it_lasts() -> None:
    keeper = GapKeeper()
    told = [gap for at in range(100) for gap in keeper.lose(at, at + 1.0, "overflow")]
    assert [(gap.start, gap.end) for gap in told] == [(0, 30), (30, 60), (60, 90)]
    assert keeper.close() == [Gap(start=90, end=100, reason="overflow")]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.0, 40.0), st.floats(0.0, 2.0), st.sampled_from("ab")),
        max_size=40,
    )
)
def test_what_is_told_is_what_was_lost(losses: list[tuple[float, float, str]]) -> None:
    keeper = GapKeeper()
    told: list[Gap] = []
    at = 0.0
    for seconds, apart, reason in losses:
        at += apart if apart > 0.5 else 0.0
        told += keeper.lose(at, at + seconds, reason)
        at += seconds
        if keeper.is_open:
            assert keeper.total_s - sum(g.end - g.start for g in told) <= LONGEST_S
    told += keeper.close()
    assert sum(gap.end - gap.start for gap in told) == pytest.approx(keeper.total_s)
    assert all(a.end <= b.start + 1e-4 for a, b in zip(told, told[1:], strict=False))
