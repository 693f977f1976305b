from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.core import SpanKind, TimelineMap

RATE = 24_000


def test_an_empty_map_is_the_identity() -> None:
    assert TimelineMap().media_time(1.5) == 1.5
    assert TimelineMap().media_time(-1.0) == 0.0


def test_live_audio_begins_where_the_caller_says() -> None:
    timeline = TimelineMap()
    timeline.append(RATE, kind=SpanKind.LIVE, media_time=5.0)
    assert timeline.media_time(0.25) == pytest.approx(5.25)


def test_fed_silence_stands_still() -> None:
    timeline = TimelineMap()
    timeline.append(RATE, kind=SpanKind.LIVE)
    timeline.append(RATE, kind=SpanKind.SILENCE)
    timeline.append(RATE, kind=SpanKind.LIVE)
    assert timeline.media_time(1.5) == pytest.approx(1.0)
    assert timeline.media_time(2.5) == pytest.approx(1.5)


def test_a_jump_forward_moves_only_what_follows() -> None:
    timeline = TimelineMap()
    timeline.append(RATE, kind=SpanKind.LIVE)
    timeline.append(RATE, kind=SpanKind.LIVE, media_time=10.0)
    assert timeline.media_time(0.5) == pytest.approx(0.5)
    assert timeline.media_time(1.5) == pytest.approx(10.5)


def test_a_jump_back_is_ignored() -> None:
    timeline = TimelineMap()
    timeline.append(RATE, kind=SpanKind.LIVE, media_time=3.0)
    timeline.append(RATE, kind=SpanKind.LIVE, media_time=0.0)
    assert timeline.media_time(1.5) == pytest.approx(4.5)


def test_nothing_is_appended_for_no_samples() -> None:
    timeline = TimelineMap()
    timeline.append(0, kind=SpanKind.LIVE, media_time=7.0)
    assert timeline.samples == 0
    assert timeline.media_time(0.0) == 0.0


def test_old_spans_are_forgotten() -> None:
    timeline = TimelineMap()
    for _ in range(400):
        timeline.append(RATE // 2, kind=SpanKind.LIVE)
        timeline.append(RATE // 2, kind=SpanKind.SILENCE)
    # Recent times are exact, times out of memory are cut off, not wrong by far.
    assert timeline.media_time(399.25) == pytest.approx(199.75)
    assert timeline.media_time(0.0) == pytest.approx(140.0)


kinds = st.sampled_from([SpanKind.LIVE, SpanKind.SILENCE])
jumps = st.none() | st.floats(0, 60)


@given(st.lists(st.tuples(st.integers(0, 50_000), kinds, jumps), max_size=20))
def test_media_time_never_runs_back(
    spans: list[tuple[int, SpanKind, float | None]],
) -> None:
    timeline = TimelineMap()
    for count, kind, media_time in spans:
        timeline.append(count, kind=kind, media_time=media_time)
    times = [timeline.media_time(step * 0.04) for step in range(600)]
    assert times == sorted(times)
