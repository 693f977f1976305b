from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.audio import MODEL_RATE
from kyutai_stream.core import FRAME_SAMPLES, SAMPLE_RATE, Framer


def test_one_rate_everywhere() -> None:
    assert SAMPLE_RATE == MODEL_RATE


@given(st.lists(st.integers(0, 5000), max_size=20))
def test_any_chunking_gives_identical_frames(sizes: list[int]) -> None:
    samples = np.arange(sum(sizes), dtype=np.float32)
    whole = Framer().push(samples)
    framer = Framer()
    frames = []
    position = 0
    for size in sizes:
        frames += framer.push(samples[position : position + size])
        position += size
    assert len(frames) == len(whole) == len(samples) // FRAME_SAMPLES
    for frame, expected in zip(frames, whole, strict=True):
        assert frame.dtype == np.float32
        assert np.array_equal(frame, expected)
    assert framer.pending == len(samples) % FRAME_SAMPLES
    assert (framer.pending + framer.padding) % FRAME_SAMPLES == 0
    assert framer.padding < FRAME_SAMPLES


def test_frames_own_their_memory() -> None:
    framer = Framer()
    samples = np.ones(2 * FRAME_SAMPLES, dtype=np.float32)
    first, second = framer.push(samples)
    samples[:] = 9
    framer.push(np.full(FRAME_SAMPLES, 5, dtype=np.float32))
    assert first.max() == second.max() == 1
