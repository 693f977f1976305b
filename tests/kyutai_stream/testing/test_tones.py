from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyutai_stream.testing.tones import (
    TONES_HZ,
    VOCABULARY,
    HeardWord,
    ToneRecogniser,
    chord_hz,
    duration_s,
    speak,
)

Samples = npt.NDArray[np.float32]
WORDS = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=12)


def listen(samples: Samples, *, chunk: int = 1920, offset: int = 0) -> list[HeardWord]:
    recogniser = ToneRecogniser()
    heard = recogniser.push(samples[:offset])
    for begin in range(offset, len(samples), chunk):
        heard += recogniser.push(samples[begin : begin + chunk])
    return heard


def texts(words: Iterable[HeardWord]) -> list[str]:
    return [word.text for word in words]


def assert_heard(
    samples: Samples, said: Iterable[HeardWord], tolerance_s: float = 0.02
) -> None:
    heard, said = listen(samples), list(said)
    assert texts(heard) == texts(said)
    for one, other in zip(heard, said, strict=True):
        assert one.start == pytest.approx(other.start, abs=tolerance_s)
        assert one.end == pytest.approx(other.end, abs=tolerance_s)


class TestVocabulary:
    def test_words_and_tones_are_apart(self) -> None:
        assert len(VOCABULARY) >= 24
        assert 300 <= min(TONES_HZ) and max(TONES_HZ) <= 7000
        chords = [set(chord_hz(word)) for word in VOCABULARY]
        assert all(len(chord) == 3 for chord in chords)
        for one, other in itertools.combinations(chords, 2):
            assert len(one & other) <= 1

    def test_words_are_short(self) -> None:
        for word in VOCABULARY:
            assert 0.2 <= duration_s(word) <= 0.32

    def test_unknown_words_are_refused(self) -> None:
        with pytest.raises(ValueError, match="vocabulary"):
            speak("alpha kyutai")
        with pytest.raises(ValueError, match="12 000"):
            speak("alpha", sample_rate=8_000)
        with pytest.raises(ValueError, match="80 ms"):
            speak("alpha", gap_s=0.05)


class TestSpeaking:
    def test_sentences_have_longer_pauses(self) -> None:
        spoken = speak("Alpha bravo. Charlie delta? echo", lead_s=0.5)
        gaps = [b.start - a.end for a, b in itertools.pairwise(spoken.words)]
        assert [gap > 0.8 for gap in gaps] == [False, True, False, True]
        assert all(gap >= 0.12 for gap in gaps)
        assert spoken.words[0].start == 0.5
        assert spoken.text == "alpha bravo charlie delta echo"

    def test_it_is_reproducible(self) -> None:
        first, again = (speak("alpha bravo", noise_dbfs=-50, seed=7) for _ in range(2))
        assert np.array_equal(first.samples, again.samples)
        assert first.words == again.words

    def test_the_level_is_as_asked(self) -> None:
        spoken = speak(["alpha"], level_dbfs=-20)
        middle = spoken.samples[1200:3600]
        level = 10 * np.log10(np.mean(np.square(middle)))
        assert level == pytest.approx(-20, abs=1)

    def test_nothing_said_is_silence(self) -> None:
        spoken = speak([], lead_s=1.0)
        assert not spoken.samples.any()
        assert spoken.duration_s == pytest.approx(1.1)


class TestHearing:
    @settings(max_examples=60, deadline=None)
    @given(
        words=WORDS,
        lead=st.integers(0, 6000),
        chunk=st.sampled_from((1920, 1920, 480, 333, 24_000)),
        offset=st.integers(0, 1919),
        level=st.floats(-33, -6),
        seed=st.integers(0, 1000),
    )
    def test_exactly_the_words(
        self,
        words: list[str],
        lead: int,
        chunk: int,
        offset: int,
        level: float,
        seed: int,
    ) -> None:
        spoken = speak(words, lead_s=lead / 24_000, level_dbfs=level, seed=seed)
        heard = listen(spoken.samples, chunk=chunk, offset=offset)
        assert texts(heard) == words
        for one, other in zip(heard, spoken.words, strict=True):
            assert one.start == pytest.approx(other.start, abs=0.01)
            assert one.end == pytest.approx(other.end, abs=0.01)

    @settings(max_examples=30, deadline=None)
    @given(
        words=WORDS,
        cuts=st.lists(st.tuples(st.integers(0, 11), st.integers(1, 48_000))),
        seed=st.integers(0, 1000),
    )
    def test_silence_between_words_changes_only_the_times(
        self, words: list[str], cuts: list[tuple[int, int]], seed: int
    ) -> None:
        """As when a client feeds zeros: words keep their place in the audio fed."""
        spoken = speak(words, seed=seed)
        samples = spoken.samples
        expected = [word.start for word in spoken.words]
        for index, length in cuts:
            if index >= len(words):
                continue
            # In the middle of the gap before word `index`.
            at = max(0, round((expected[index] - 0.05) * 24_000))
            samples = np.insert(samples, at, np.zeros(length, dtype=np.float32))
            for later in range(index, len(words)):
                expected[later] += length / 24_000
        heard = listen(samples)
        assert texts(heard) == words
        assert [word.start for word in heard] == pytest.approx(expected, abs=0.02)

    def test_the_same_word_twice_is_two_words(self) -> None:
        spoken = speak("golf golf golf zulu zulu")
        assert_heard(spoken.samples, spoken.words)

    @pytest.mark.parametrize("seed", range(4))
    def test_through_noise(self, seed: int) -> None:
        spoken = speak(VOCABULARY, noise_dbfs=-30, seed=seed)
        assert_heard(spoken.samples, spoken.words)

    def test_a_reset_begins_anew(self) -> None:
        spoken = speak("kilo lima")
        recogniser = ToneRecogniser()
        recogniser.push(spoken.samples[:3000])
        assert recogniser.speaking
        recogniser.reset()
        assert not recogniser.speaking
        assert texts(recogniser.push(spoken.samples)) == ["kilo", "lima"]

    def test_a_word_is_known_when_its_end_was_heard(self) -> None:
        """A recogniser with six steps of delay needs it within 0.4 s of the start."""
        for word in VOCABULARY:
            spoken = speak([word], tail_s=0.5)
            recogniser, heard, fed = ToneRecogniser(), False, 0
            while not heard:
                heard = bool(recogniser.push(spoken.samples[fed : fed + 240]))
                fed += 240
            assert fed / 24_000 <= duration_s(word) + 0.06


class TestHearingNothing:
    @pytest.mark.parametrize("level", [None, -40, -20, -6])
    def test_silence_and_noise(self, level: int | None) -> None:
        random = np.random.default_rng(3)
        samples = np.zeros(24_000 * 20, dtype=np.float32)
        if level is not None:
            noise = random.normal(0, 10 ** (level / 20), len(samples))
            samples = np.clip(noise, -1, 1).astype(np.float32)
        assert listen(samples) == []

    def test_coloured_noise(self) -> None:
        random = np.random.default_rng(3)
        white = random.normal(0, 1, 24_000 * 20)
        brown = np.cumsum(white)
        brown -= np.convolve(brown, np.ones(2400) / 2400, mode="same")
        samples = (0.1 * brown / np.abs(brown).max()).astype(np.float32)
        assert listen(samples) == []

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 100.0])
    def test_what_is_no_audio(self, value: float) -> None:
        chord = speak(["alpha"]).samples
        assert listen(np.full(24_000, value, dtype=np.float32)) == []
        with np.errstate(invalid="ignore", over="ignore"):
            loud = chord * np.float32(value)
        assert listen(loud) == []

    def test_hum_and_a_steady_chord(self) -> None:
        time = np.arange(24_000 * 10) / 24_000
        hum = 0.3 * np.sin(2 * np.pi * 50 * time)
        chord = sum(0.1 * np.sin(2 * np.pi * hz * time) for hz in chord_hz("alpha"))
        for samples in (hum, chord, hum + chord):
            padded = np.concatenate((samples, np.zeros(4800)))
            assert listen(padded.astype(np.float32)) == []

    def test_speech(self, meeting_16k: npt.NDArray[np.int16]) -> None:
        scipy_signal = pytest.importorskip("scipy.signal")
        speech = scipy_signal.resample_poly(meeting_16k / 32768, 3, 2)
        assert listen(speech.astype(np.float32)) == []

    @pytest.mark.parametrize("word", VOCABULARY)
    @pytest.mark.parametrize("missing", [0.35, 0.5, 0.8])
    def test_a_word_without_its_begin_or_end(self, word: str, missing: float) -> None:
        spoken = speak([word], lead_s=0.0, tail_s=0.0)
        cut = round(missing * len(spoken.samples))
        quiet = np.zeros(4800, dtype=np.float32)
        assert listen(np.concatenate((spoken.samples[cut:], quiet))) == []
        assert listen(np.concatenate((spoken.samples[:-cut], quiet))) == []

    @pytest.mark.parametrize("word", VOCABULARY)
    def test_a_little_may_be_missing(self, word: str) -> None:
        spoken = speak([word])
        cut = round(0.2 * duration_s(word) * 24_000)
        assert texts(listen(spoken.samples[cut:])) == [word]


class TestOpus:
    """The words survive what WebRTC does to speech."""

    @pytest.mark.parametrize("application", ["voip", "audio"])
    @pytest.mark.parametrize("bitrate", [16_000, 24_000])
    @pytest.mark.parametrize("level", [-12, -32])
    def test_words_survive(self, application: str, bitrate: int, level: int) -> None:
        random = np.random.default_rng(bitrate + level)
        words = [str(word) for word in random.permutation(VOCABULARY * 2)]
        spoken = speak(
            words, sample_rate=48_000, lead_s=0.2, tail_s=0.3, level_dbfs=level
        )
        audio = _through_opus(spoken.samples, bitrate, application)
        scipy_signal = pytest.importorskip("scipy.signal")
        samples = scipy_signal.resample_poly(audio, 1, 2).astype(np.float32)
        assert_heard(samples, spoken.words)


def _through_opus(samples: Samples, bitrate: int, application: str) -> Samples:
    av = pytest.importorskip("av")
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "flt"
    encoder.bit_rate = bitrate
    encoder.options = {"application": application, "frame_duration": "20"}
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    out = []
    for begin in range(0, len(samples) - 959, 960):
        block = samples[None, begin : begin + 960]
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate, frame.pts = 48_000, begin
        for packet in encoder.encode(frame):
            for decoded in decoder.decode(packet):
                out.append(_floats(decoded.to_ndarray().reshape(-1)))
    return np.concatenate(out)


def _floats(samples: npt.NDArray[np.generic]) -> Samples:
    scale = 32768 if samples.dtype == np.int16 else 1
    return (samples.astype(np.float32) / scale).astype(np.float32)
