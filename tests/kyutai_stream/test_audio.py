from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream.audio import AudioFormat, Resampler, to_mono
from kyutai_stream.errors import AudioFormatError, BackendUnavailable

FLOAT = AudioFormat()
INT_STEREO = AudioFormat(sample_rate=48_000, channels=2, encoding="s16le")


class TestAccepted:
    def test_float_mono_is_handed_on(self) -> None:
        samples = np.array([0.5, -0.5], dtype=np.float32)
        assert np.array_equal(to_mono(samples, FLOAT), samples)

    def test_int16_is_scaled(self) -> None:
        out = to_mono(np.array([-32768, 16384], dtype=np.int16), FLOAT)
        assert out.dtype == np.float32
        assert out.tolist() == [-1.0, 0.5]

    def test_channels_are_mixed(self) -> None:
        out = to_mono(np.array([[0.5, 0.0], [0.0, 1.0]], dtype=np.float32), FLOAT)
        assert out.tolist() == [0.25, 0.5]

    def test_an_even_number_of_mono_samples_is_not_stereo(self) -> None:
        assert len(to_mono(np.zeros(100, dtype=np.float32), FLOAT)) == 100

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_bytes_are_read_as_the_format_says(self, kind: Any) -> None:
        raw = np.array([[16384, 0], [-16384, -16384]], dtype="<i2").tobytes()
        assert to_mono(kind(raw), INT_STEREO).tolist() == [0.25, -0.5]

    def test_a_typed_memoryview_counts_as_bytes(self) -> None:
        view = np.array([0.5, 0.25], dtype="<f4").data
        assert to_mono(view, FLOAT).tolist() == [0.5, 0.25]

    def test_nothing_zero_and_clipping_are_fine(self) -> None:
        assert len(to_mono(b"", FLOAT)) == 0
        assert len(to_mono(np.zeros(0, dtype=np.float32), FLOAT)) == 0
        assert to_mono(np.full(3, 1.2, dtype=np.float32), FLOAT).max() == 1.0


class TestRefused:
    @pytest.mark.parametrize(
        "samples",
        [
            np.zeros(4, dtype=np.float64),
            np.zeros(4, dtype=np.uint8),
            np.zeros((2, 2, 2), dtype=np.float32),
            np.zeros((2, 0), dtype=np.float32),
            np.zeros((2, 99), dtype=np.float32),
            np.array(0.5, dtype=np.float32),
            np.array([0.0, math.nan], dtype=np.float32),
            np.array([0.0, math.inf], dtype=np.float32),
            np.array([20_000.0], dtype=np.float32),
            b"abc",
            [0.0, 0.1],
            None,
        ],
    )
    def test_malformed_audio(self, samples: Any) -> None:
        with pytest.raises(AudioFormatError):
            to_mono(samples, FLOAT)

    def test_a_split_stereo_sample(self) -> None:
        with pytest.raises(AudioFormatError, match="6 bytes"):
            to_mono(b"abcdef", INT_STEREO)

    @pytest.mark.parametrize(
        "wrong", [{"sample_rate": 0}, {"channels": 0}, {"encoding": "u8"}]
    )
    def test_a_wrong_format(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            AudioFormat(**wrong)


def sweep(rate: int) -> npt.NDArray[np.float32]:
    time = np.arange(rate) / rate
    phase = 2 * np.pi * (50 + 3000 * time / 2) * time
    return (0.5 * np.sin(phase)).astype(np.float32)


RATES = [(48_000, 24_000), (24_000, 16_000), (16_000, 24_000), (44_100, 24_000)]


class TestResampler:
    @pytest.mark.parametrize(("source", "target"), RATES)
    def test_a_sweep_keeps_its_shape_and_place(self, source: int, target: int) -> None:
        resampler = Resampler(source, target)
        out = np.concatenate((resampler.push(sweep(source)), resampler.finish()))
        expected = sweep(target)
        assert len(out) == len(expected)
        error = (out - expected)[100:-100]
        snr = 10 * np.log10(np.mean(expected**2) / np.mean(error**2))
        assert snr > 85

    def test_what_would_alias_is_removed(self) -> None:
        time = np.arange(48_000) / 48_000
        high = np.sin(2 * np.pi * 17_000 * time).astype(np.float32)
        out = Resampler(48_000).push(high)[100:]
        assert 10 * np.log10(np.mean(out**2)) < -80

    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from(RATES), st.lists(st.integers(0, 3000), max_size=12))
    def test_any_chunking_gives_the_same_samples(
        self, rates: tuple[int, int], sizes: list[int]
    ) -> None:
        rng = np.random.default_rng(len(sizes))
        samples = rng.normal(0, 0.3, sum(sizes)).astype(np.float32)
        whole = Resampler(*rates)
        expected = np.concatenate((whole.push(samples), whole.finish()))
        resampler = Resampler(*rates)
        out = []
        position = 0
        for size in sizes:
            out.append(resampler.push(samples[position : position + size]))
            position += size
            assert -1e-9 <= resampler.lag_s <= resampler.longest_lag_s
        out.append(resampler.finish())
        assert np.array_equal(np.concatenate(out), expected)
        assert resampler.longest_lag_s < 0.006

    def test_odd_rates_are_converted_too(self) -> None:
        rate = 44_104  # 5513 to 3000: no small matrix. A prime rate takes longer.
        samples = sweep(rate)
        resampler = Resampler(rate)
        out = [resampler.push(samples[at : at + 997]) for at in range(0, rate, 997)]
        out.append(resampler.finish())
        converted = np.concatenate(out)
        expected = sweep(24_000)
        assert len(converted) == len(expected)
        error = (converted - expected)[100:-100]
        assert 10 * np.log10(np.mean(expected**2) / np.mean(error**2)) > 85

    @pytest.mark.parametrize("rates", [(0, 24_000), (48_000, -1), (24_000, 24_000)])
    def test_impossible_rates(self, rates: tuple[int, int]) -> None:
        with pytest.raises(AudioFormatError):
            Resampler(*rates)

    def test_without_scipy_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "scipy.signal", None)
        with pytest.raises(BackendUnavailable, match=r"kyutai-stream\[resample\]"):
            Resampler(44_101)
        # Everything that is common needs none.
        for rate in (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000):
            Resampler(rate)


def test_audio_that_is_a_little_too_loud_is_clipped() -> None:
    loud = np.array([0.5, 1.5, -3.0], dtype=np.float32)
    assert to_mono(loud, AudioFormat()).tolist() == [0.5, 1.0, -1.0]
    assert loud[1] == 1.5
