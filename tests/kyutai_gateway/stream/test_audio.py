"""Bytes in any chunking to exact frames, and what is no audio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_gateway.stream.audio import FRAME_BYTES, BadAudio, Intake

rng = np.random.default_rng(1)
AUDIO = rng.uniform(-0.5, 0.5, 3 * 1920 + 700).astype("<f4").tobytes()


@given(st.lists(st.integers(0, 2 * FRAME_BYTES), max_size=40))
def test_any_chunking_gives_the_same_frames(sizes: list[int]) -> None:
    intake = Intake()
    frames, at = [], 0
    for size in (*sizes, len(AUDIO)):
        frames += intake.push(AUDIO[at : at + size])
        at = min(at + size, len(AUDIO))
    assert [len(frame) for frame in frames] == [1920] * 3
    assert intake.samples == 3 * 1920 + 700
    padded = intake.pad()
    assert padded is not None
    frame, own = padded
    assert own == 700
    heard = np.concatenate((*frames, frame[:own]))
    assert heard.tobytes() == AUDIO
    assert not frame[own:].any()
    assert intake.pad() is None


@given(st.integers(1, 3), st.integers(0, 1919))
def test_a_split_sample_survives_the_padding(split: int, whole: int) -> None:
    intake = Intake()
    cut = 4 * whole + split
    intake.push(AUDIO[:cut])
    assert intake.split == split
    padded = intake.pad()
    assert (padded is None) == (whole == 0)
    assert intake.split == split
    (frame,) = intake.push(AUDIO[cut : cut - split + FRAME_BYTES])
    begin = cut - split
    assert frame.tobytes() == AUDIO[begin : begin + FRAME_BYTES]


@given(st.lists(st.binary(max_size=9000), max_size=8))
def test_random_bytes_are_audio_or_bad_audio(chunks: list[bytes]) -> None:
    intake = Intake()
    try:
        for chunk in chunks:
            for frame in intake.push(chunk):
                assert np.isfinite(frame).all()
                assert np.abs(frame).max() <= 32
    except BadAudio:
        pass


@pytest.mark.parametrize("before", [0, 2, 40, FRAME_BYTES - 8])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 500.0])
def test_what_is_no_sample_is_refused_at_once(before: int, value: float) -> None:
    intake = Intake()
    intake.push(bytes(before - before % 4))
    with pytest.raises(BadAudio):
        intake.push(np.full(1900, value, dtype="<f4").tobytes())


def test_too_much_gain_is_clipped() -> None:
    intake = Intake()
    (frame,) = intake.push(np.full(1920, -1.5, dtype="<f4").tobytes())
    assert frame.min() == frame.max() == -1.0


def test_loud_is_what_may_be_speech() -> None:
    intake = Intake()
    intake.push(np.full(1920, 0.002, dtype="<f4").tobytes())
    assert not intake.loud
    intake.push(np.full(1920, 0.01, dtype="<f4").tobytes())
    assert intake.loud
