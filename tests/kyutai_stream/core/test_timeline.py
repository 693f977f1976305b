from __future__ import annotations

import pytest
from hypothesis import given, settings
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


class TestKinds:
    def test_nothing_was_sent(self) -> None:
        assert TimelineMap().kind(0.0) is None

    def test_each_stretch_has_its_own(self) -> None:
        timeline = TimelineMap()
        order = [SpanKind.PRIME, SpanKind.REPLAY, SpanKind.LIVE, SpanKind.SILENCE]
        for kind in order:
            timeline.append(RATE, kind=kind)
        assert [timeline.kind(second + 0.5) for second in range(4)] == order
        # The first sample belongs to the new one; what comes later, to the last.
        assert timeline.kind(1.0) is SpanKind.REPLAY
        assert timeline.kind(99.0) is SpanKind.SILENCE

    def test_priming_stands_still_and_replay_runs(self) -> None:
        timeline = TimelineMap()
        timeline.append(2 * RATE, kind=SpanKind.PRIME, media_time=7.0)
        timeline.append(RATE, kind=SpanKind.REPLAY, media_time=7.0)
        timeline.append(RATE, kind=SpanKind.LIVE)
        assert timeline.media_time(1.9) == pytest.approx(7.0)
        assert timeline.media_time(2.5) == pytest.approx(7.5)
        assert timeline.media_time(3.5) == pytest.approx(8.5)

    def test_spans_of_one_kind_that_continue_are_one(self) -> None:
        # Times in milliseconds are rounded: that makes no jumps.
        timeline = TimelineMap()
        for step in range(100):
            at = round(step * 1001 / RATE, 3)
            timeline.append(1001, kind=SpanKind.LIVE, media_time=at)
        assert timeline.media_time(4.0) == pytest.approx(4.0, abs=1e-9)


class TestWordStarts:
    """Recognisers date words up to two steps early."""

    def muted(self) -> TimelineMap:
        """A second of sound, one of silence, then sound from 30 s on."""
        timeline = TimelineMap()
        timeline.append(RATE, kind=SpanKind.LIVE)
        timeline.append(RATE, kind=SpanKind.SILENCE)
        timeline.append(RATE, kind=SpanKind.LIVE, media_time=30.0)
        return timeline

    def test_a_word_in_sound_is_where_it_is(self) -> None:
        assert self.muted().word_start(0.5) == pytest.approx(0.5)
        assert self.muted().word_start(2.25) == pytest.approx(30.25)
        assert TimelineMap().word_start(1.5) == 1.5

    def test_a_word_just_before_sound_begins_with_it(self) -> None:
        assert self.muted().word_start(1.85) == pytest.approx(30.0)

    def test_a_word_deep_in_silence_belongs_to_what_was_before(self) -> None:
        assert self.muted().word_start(1.2) == pytest.approx(1.0)

    def test_behind_the_last_sound_too(self) -> None:
        timeline = TimelineMap()
        timeline.append(RATE, kind=SpanKind.LIVE)
        timeline.append(RATE, kind=SpanKind.SILENCE)
        assert timeline.word_start(1.99) == pytest.approx(1.0)

    def test_priming_between_does_not_hide_the_sound(self) -> None:
        timeline = TimelineMap()
        timeline.append(RATE, kind=SpanKind.SILENCE, media_time=5.0)
        timeline.append(RATE // 20, kind=SpanKind.PRIME, media_time=5.0)
        timeline.append(RATE, kind=SpanKind.REPLAY, media_time=8.0)
        assert timeline.word_start(0.97) == pytest.approx(8.0)


kinds = st.sampled_from(list(SpanKind))
jumps = st.none() | st.floats(0, 60)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50_000), kinds, jumps), max_size=20))
def test_media_time_never_runs_back(
    spans: list[tuple[int, SpanKind, float | None]],
) -> None:
    timeline = TimelineMap()
    for count, kind, media_time in spans:
        timeline.append(count, kind=kind, media_time=media_time)
    times = [timeline.media_time(step * 0.04) for step in range(600)]
    assert times == sorted(times)
    starts = [timeline.word_start(step * 0.04) for step in range(600)]
    assert starts == sorted(starts)
    assert all(start >= at for start, at in zip(starts, times, strict=True))
