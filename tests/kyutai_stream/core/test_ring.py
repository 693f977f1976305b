from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream.core import FRAME_SAMPLES, SAMPLE_RATE, AudioRing

Samples = npt.NDArray[np.float32]

JITTER = 0.02


def counted(count: int, first: int = 0) -> Samples:
    """Loud samples that tell their number."""
    return (0.25 + np.arange(first, first + count) / 2**24).astype(np.float32)


def numbers(samples: Samples) -> list[int]:
    found: list[int] = np.rint((samples.astype(np.float64) - 0.25) * 2**24).tolist()
    return found


def quiet(seconds: float) -> Samples:
    return np.full(round(seconds * SAMPLE_RATE), 1e-4, dtype=np.float32)


def loud(seconds: float) -> Samples:
    return np.full(round(seconds * SAMPLE_RATE), 0.1, dtype=np.float32)


def filled(*parts: Samples, media_time: float = 0.0) -> AudioRing:
    ring = AudioRing()
    for part in parts:
        ring.append(part, media_time, 0.0)
        media_time += len(part) / SAMPLE_RATE
    return ring


def drain(ring: AudioRing, limit: int = FRAME_SAMPLES) -> list[int]:
    """Take everything; the numbers of the samples."""
    taken: list[int] = []
    while (piece := ring.take(limit)) is not None:
        taken += numbers(piece.samples)
    return taken


class TestHandingOut:
    def test_an_empty_ring_hands_out_nothing(self) -> None:
        ring = AudioRing()
        assert ring.take(100) is None
        assert ring.peek() is None
        assert (ring.held, ring.waiting, ring.media_end()) == (0, 0, 0.0)
        assert ring.media_at_cursor() == 0.0
        assert ring.quiet_run() == 0
        assert ring.rewind(0.0) == 0
        ring.release(99.0)

    def test_samples_come_out_once_in_order(self) -> None:
        ring = AudioRing()
        ring.append(counted(5000), 2.0, 7.0)
        assert ring.waiting_s == pytest.approx(5000 / SAMPLE_RATE)
        first = ring.take(100)
        assert first is not None
        assert (first.position, first.media_time, first.arrived) == (0, 2.0, 7.0)
        assert numbers(first.samples) == list(range(100))
        assert drain(ring, 700) == list(range(100, 5000))
        assert ring.media_at_cursor() == pytest.approx(2.0 + 5000 / SAMPLE_RATE)
        assert ring.held == 5000

    def test_looking_does_not_take(self) -> None:
        ring = filled(counted(100))
        assert ring.peek() is not None
        assert ring.waiting == 100

    def test_no_piece_is_longer_than_a_block(self) -> None:
        ring = filled(counted(5000))
        pieces = []
        while (piece := ring.take(99_999)) is not None:
            pieces.append(len(piece.samples))
        assert pieces == [1920, 1920, 1160]

    def test_the_caller_may_reuse_its_memory(self) -> None:
        samples = counted(3000)
        ring = filled(samples)
        samples[:] = 0
        assert drain(ring) == list(range(3000))

    def test_samples_are_not_in_a_repr(self) -> None:
        piece = filled(counted(10)).peek()
        assert "0.25" not in repr(piece) and "array" not in repr(piece)


class TestMediaTime:
    def test_jitter_of_a_packet_moves_nothing(self) -> None:
        ring = AudioRing()
        ring.append(counted(480), 0.0, 0.0)
        ring.append(counted(480), 0.02 + 0.9 * JITTER, 0.0)
        assert ring.media_end() == pytest.approx(0.04)

    def test_more_than_jitter_is_a_jump(self) -> None:
        ring = AudioRing()
        ring.append(counted(480), 0.0, 0.0)
        ring.append(counted(480), 0.02 + 1.1 * JITTER, 0.0)
        assert ring.media_end() == pytest.approx(0.04 + 1.1 * JITTER)

    def test_jitter_does_not_add_up(self) -> None:
        ring = AudioRing()
        for step in range(100):
            # The caller's clock is 5 % fast: 1 ms more with each packet.
            ring.append(counted(480), step * 0.021, 0.0)
        assert ring.media_end() == pytest.approx(100 * 0.021, abs=JITTER + 0.001)

    def test_a_jump_is_kept_where_it_is(self) -> None:
        ring = AudioRing()
        ring.append(counted(1000), 0.0, 0.0)
        ring.append(counted(1000, 1000), 5.0, 0.0)
        before, after = ring.take(1920), ring.take(1920)
        assert before is not None and after is not None
        assert (before.media_time, after.media_time) == (0.0, 5.0)
        assert numbers(after.samples) == list(range(1000, 2000))
        assert ring.media_end() == pytest.approx(5.0 + 1000 / SAMPLE_RATE)

    def test_it_never_runs_back(self) -> None:
        ring = AudioRing()
        ring.append(counted(FRAME_SAMPLES), 3.0, 0.0)
        ring.append(counted(100), 1.0, 0.0)
        assert ring.media_end() == pytest.approx(3.08 + 100 / SAMPLE_RATE)


class TestRewind:
    def test_audio_is_handed_out_again_from_there(self) -> None:
        ring = filled(counted(9600), media_time=10.0)
        drain(ring)
        assert ring.rewind(10.1) == 9600 - 2400
        assert ring.media_at_cursor() == pytest.approx(10.1)
        assert drain(ring, 1000) == list(range(2400, 9600))

    def test_it_never_moves_on(self) -> None:
        ring = filled(counted(9600))
        ring.take(500)
        assert ring.rewind(0.3) == 0
        assert ring.cursor == 500

    def test_within_the_block_that_is_being_handed_out(self) -> None:
        ring = filled(counted(1920))
        ring.take(1500)
        assert ring.rewind(1000 / SAMPLE_RATE) == 500

    def test_before_the_oldest_audio_gives_the_oldest(self) -> None:
        ring = filled(counted(9600), media_time=10.0)
        drain(ring)
        ring.release(10.17)
        ring.rewind(0.0)
        assert ring.cursor == 2 * FRAME_SAMPLES
        assert ring.held == 3 * FRAME_SAMPLES

    def test_into_a_jump_gives_its_far_side(self) -> None:
        ring = AudioRing()
        ring.append(counted(1920), 0.0, 0.0)
        ring.append(counted(1920, 1920), 9.0, 0.0)
        drain(ring)
        ring.rewind(4.0)
        assert ring.cursor == 1920


class TestSkip:
    def test_it_tells_what_was_skipped(self) -> None:
        ring = AudioRing()
        ring.append(counted(4000), 1.0, 0.0)
        ring.append(counted(4000, 4000), 8.0, 0.0)
        start, end = ring.skip(6000)
        assert start == 1.0
        assert end == pytest.approx(8.0 + 2000 / SAMPLE_RATE)
        assert drain(ring) == list(range(6000, 8000))

    def test_never_more_than_waits(self) -> None:
        ring = filled(counted(100))
        ring.take(40)
        start, end = ring.skip(10**9)
        assert (start, end) == pytest.approx((40 / SAMPLE_RATE, 100 / SAMPLE_RATE))
        assert ring.waiting == 0

    def test_nothing_can_be_skipped_where_nothing_waits(self) -> None:
        with pytest.raises(AssertionError):
            AudioRing().skip(1)


class TestRelease:
    def test_waiting_audio_is_never_forgotten(self) -> None:
        ring = filled(counted(9600))
        ring.take(1920)
        ring.release(99.0)
        assert ring.held == 9600 - 1920
        assert drain(ring) == list(range(1920, 9600))

    def test_the_last_block_says_where_media_time_stands(self) -> None:
        ring = filled(counted(9600), media_time=3.0)
        drain(ring)
        ring.release(99.0)
        assert ring.held == FRAME_SAMPLES
        assert ring.media_end() == pytest.approx(3.4)

    def test_memory_is_really_given_back(self) -> None:
        ring = AudioRing()
        for step in range(5000):
            ring.append(counted(480), step * 0.02, 0.0)
            ring.take(480)
            ring.release(step * 0.02 - 1.0)
        assert ring.held <= 1.2 * SAMPLE_RATE


class TestQuiet:
    def test_speech_is_told_from_an_open_microphone(self) -> None:
        ring = AudioRing()
        assert not ring.append(quiet(0.5), 0.0, 0.0)
        assert ring.append(loud(0.01), 0.5, 0.0)

    def test_speech_is_told_in_any_part_of_what_came(self) -> None:
        ring = AudioRing()
        assert ring.append(np.concatenate((loud(0.08), quiet(1.0))), 0.0, 0.0)

    def test_the_run_from_the_cursor_on(self) -> None:
        ring = filled(quiet(0.8), loud(0.08), quiet(0.4))
        assert ring.quiet_run() == round(0.8 * SAMPLE_RATE)
        ring.take(500)
        assert ring.quiet_run() == round(0.8 * SAMPLE_RATE) - 500
        ring.skip(round(0.8 * SAMPLE_RATE) - 500)
        assert ring.quiet_run() == 0
        ring.skip(FRAME_SAMPLES)
        assert ring.quiet_run() == round(0.4 * SAMPLE_RATE)

    def test_pieces_say_it(self) -> None:
        ring = filled(quiet(0.08), loud(0.08))
        flags = [piece.quiet for piece in (ring.take(1920), ring.take(1920)) if piece]
        assert flags == [True, False]


class TestEdges:
    """Places in the sound, found in windows of 20 ms."""

    def test_the_quietest_point_before_a_time(self) -> None:
        ring = filled(loud(1.0), quiet(0.1), loud(1.0))
        assert ring.quiet_point(1.3, 0.4) == pytest.approx(1.09, abs=0.011)

    def test_the_latest_of_equal_ones(self) -> None:
        ring = filled(quiet(2.0))
        assert ring.quiet_point(1.5, 0.4) == pytest.approx(1.49, abs=0.011)

    def test_no_point_where_nothing_is_held(self) -> None:
        assert filled(loud(1.0)).quiet_point(9.0, 0.4) == 9.0

    def test_the_end_of_a_sound(self) -> None:
        ring = filled(quiet(0.5), loud(0.3), quiet(0.5))
        assert ring.sound_end(0.6, 0.8) == pytest.approx(0.8, abs=0.021)

    def test_a_sound_20_db_softer_is_the_end_too(self) -> None:
        ring = filled(loud(0.4), (loud(0.4) / 11).astype(np.float32))
        assert ring.sound_end(0.1, 0.8) == pytest.approx(0.4, abs=0.021)

    def test_in_quiet_nothing_is_to_be_ended(self) -> None:
        assert filled(quiet(1.0)).sound_end(0.3, 0.5) == pytest.approx(0.3, abs=0.021)

    def test_an_endless_sound_has_no_end(self) -> None:
        assert filled(loud(2.0)).sound_end(0.3, 0.5) == 0.3

    def test_the_begin_of_a_sound(self) -> None:
        ring = filled(quiet(0.5), loud(0.3), quiet(0.5))
        assert ring.sound_start(0.7, 0.8) == pytest.approx(0.5, abs=0.021)

    def test_in_quiet_nothing_has_begun(self) -> None:
        found = filled(quiet(1.0)).sound_start(0.7, 0.5)
        assert found == pytest.approx(0.7, abs=0.021)

    def test_an_endless_sound_has_no_begin(self) -> None:
        assert filled(loud(2.0)).sound_start(1.3, 0.5) == 1.3

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(st.floats(0.001, 0.4), st.floats(0.0, 0.5)),
            min_size=1,
            max_size=12,
        ),
        st.floats(0.0, 4.0),
        st.floats(0.0, 1.0),
    )
    def test_edges_lie_within_reach_on_their_side(
        self, parts: list[tuple[float, float]], at: float, reach: float
    ) -> None:
        ring = filled(
            *(
                np.full(round(seconds * SAMPLE_RATE), level).astype(np.float32)
                for seconds, level in parts
            )
        )
        assert at <= ring.sound_end(at, reach) <= at + reach + 1e-9
        assert at - reach - 1e-9 <= ring.sound_start(at, reach) <= at
        assert at - reach - 1e-9 <= ring.quiet_point(at, reach) <= at


@define(eq=False)
class Model:
    """A ring without any cleverness: each sample with its media time."""

    media: list[float] = field(factory=list)
    cursor: int = 0
    oldest: int = 0
    """What the ring may have forgotten lies before."""

    def append(self, count: int, start: float) -> None:
        self.media += [start + i / SAMPLE_RATE for i in range(count)]


Step = tuple[str, int, float]

steps = st.tuples(
    st.sampled_from(["append", "take", "rewind", "skip", "release"]),
    st.integers(0, 5000),
    st.sampled_from([0.0, 0.0, 0.0, 0.5, 3.0]),
)


@settings(deadline=None)
@given(st.lists(steps, max_size=30))
def test_any_order_of_calls_agrees_with_a_naive_model(script: list[Step]) -> None:
    ring, model = AudioRing(), Model()
    next_media = 1.0
    for name, number, jump in script:
        if name == "append":
            next_media += jump
            ring.append(counted(number, len(model.media)), next_media, 0.0)
            model.append(number, next_media)
            next_media += number / SAMPLE_RATE
        elif name == "take":
            _same_piece(ring, model, number + 1)
        elif name == "skip" and model.cursor < len(model.media):
            _same_skip(ring, model, number)
        elif name == "rewind":
            _same_rewind(ring, model, _somewhere(model, number))
        elif name == "release":
            before = ring.held
            ring.release(_somewhere(model, number))
            oldest = ring.end - ring.held
            assert ring.held <= before
            assert oldest <= model.cursor
            # Nothing that lies behind the time was forgotten.
            bound = _somewhere(model, number) + 1e-6
            assert max(model.media[model.oldest : oldest], default=0.0) < bound
            model.oldest = oldest
        assert (ring.cursor, ring.end) == (model.cursor, len(model.media))
        assert ring.waiting == len(model.media) - model.cursor
    _same_rest(ring, model)


def _somewhere(model: Model, number: int) -> float:
    """A media time in or around the audio."""
    if not model.media:
        return float(number)
    return model.media[number * 7 % len(model.media)] + (number % 3 - 1) * 0.01


def _same_piece(ring: AudioRing, model: Model, limit: int) -> None:
    piece = ring.take(limit)
    if piece is None:
        assert model.cursor == len(model.media)
        return
    count = len(piece.samples)
    assert 0 < count <= min(limit, FRAME_SAMPLES)
    assert piece.position == model.cursor
    assert numbers(piece.samples) == list(range(model.cursor, model.cursor + count))
    expected = model.media[model.cursor : model.cursor + count]
    assert piece.media_time == pytest.approx(expected[0], abs=1e-6)
    assert expected[-1] - expected[0] == pytest.approx(
        (count - 1) / SAMPLE_RATE, abs=1e-6
    )
    model.cursor += count


def _same_skip(ring: AudioRing, model: Model, number: int) -> None:
    start, end = ring.skip(number)
    assert start == pytest.approx(model.media[model.cursor], abs=1e-6)
    target = min(model.cursor + number, len(model.media))
    if target > model.cursor:
        last = model.media[target - 1] + 1 / SAMPLE_RATE
        assert end == pytest.approx(last, abs=1e-6)
    model.cursor = target


def _same_rewind(ring: AudioRing, model: Model, at: float) -> None:
    before = model.cursor
    back = ring.rewind(at)
    # The first sample at or after that time, of those that are held: within a
    # sample, because times are rounded to the nearest one.
    held = range(model.oldest, before)
    target = next((i for i in held if model.media[i] >= at - 0.5 / SAMPLE_RATE), before)
    assert back >= 0
    assert abs(ring.cursor - target) <= 1
    model.cursor = ring.cursor


def _same_rest(ring: AudioRing, model: Model) -> None:
    while model.cursor < len(model.media):
        _same_piece(ring, model, FRAME_SAMPLES)
    assert ring.peek() is None
