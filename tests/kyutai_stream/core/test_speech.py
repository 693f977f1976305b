from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.core import SpeechDetector

Samples = npt.NDArray[np.float32]


def test_a_burst_begins_and_ends_where_it_is(burst: Samples) -> None:
    detector = SpeechDetector()
    began, ended = detector.push(burst)
    assert began.active and not ended.active
    assert began.at == pytest.approx(0.5, abs=0.04)
    assert ended.at == pytest.approx(1.5, abs=0.04)
    assert not detector.active


def test_a_shorter_hangover_does_not_move_the_end(burst: Samples) -> None:
    ends = [SpeechDetector(hangover_s=h).push(burst)[-1].at for h in (0.3, 0.9)]
    assert ends[0] == ends[1]


def test_finish_ends_open_speech_once(burst: Samples) -> None:
    detector = SpeechDetector()
    assert [one.active for one in detector.push(burst[:30_000])] == [True]
    assert detector.active
    assert [one.active for one in detector.finish()] == [False]
    assert detector.finish() == []


@pytest.mark.parametrize("level", [0.0, 0.0005])
def test_silence_and_faint_noise_are_no_speech(level: float) -> None:
    noise = np.random.default_rng(1).normal(0, level, 240_000).astype(np.float32)
    assert SpeechDetector().push(noise) == []


def test_speech_is_found_in_noise_and_the_noise_is_not(burst: Samples) -> None:
    noise = np.random.default_rng(2).normal(0, 0.002, 240_000).astype(np.float32)
    noise[120_000 : 120_000 + len(burst)] += burst
    began, ended = SpeechDetector().push(noise)
    assert began.at == pytest.approx(5.5, abs=0.05)
    assert ended.at == pytest.approx(6.5, abs=0.05)


def test_a_stream_that_begins_in_mid_word_is_heard(burst: Samples) -> None:
    changes = SpeechDetector().push(burst[14_000:])
    assert [one.active for one in changes] == [True, False]
    assert changes[0].at == 0.0


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=30))
def test_chunking_does_not_matter(sizes: list[int]) -> None:
    time = np.arange(sum(sizes)) / 24_000
    samples = (0.3 * np.sin(2000 * time) * (np.sin(9 * time) > 0)).astype(np.float32)
    whole = SpeechDetector(hangover_s=0.1)
    pieces = SpeechDetector(hangover_s=0.1)
    found = []
    position = 0
    for size in sizes:
        found += pieces.push(samples[position : position + size])
        position += size
    assert found == whole.push(samples)
