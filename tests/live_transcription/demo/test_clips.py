# SPDX-License-Identifier: AGPL-3.0-or-later
from __future__ import annotations

import shutil
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from live_transcription.demo.clips import (
    ClipError,
    bundled_clips,
    load_clip,
    load_clips,
)


def write_wav(path: Path, samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> Path:
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        writer.writeframes(samples.tobytes())
    return path


def silence_then_tone(silence_s: float) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    quiet = np.zeros(round(silence_s * 16_000))
    return np.concatenate([quiet, tone]).astype(np.int16)


class TestBundled:
    def test_four_people_each_with_speech_and_its_text(self) -> None:
        clips = bundled_clips()
        assert [clip.name for clip in clips] == [
            "Alice Martin",
            "Ben Keller",
            "Callum Reid",
            "David Kim",
        ]
        for clip in clips:
            assert clip.text is not None
            assert len(clip.text.split()) > 25
            assert 10 <= clip.duration_s <= 14
            assert 0.15 <= clip.voice_start_s <= 0.3

    def test_files_are_small_mono_16_khz(self) -> None:
        for clip in bundled_clips():
            assert clip.path.stat().st_size < 450_000
            with wave.open(str(clip.path)) as reader:
                assert reader.getparams()[:3] == (1, 2, 16_000)

    def test_licence_lies_beside_them(self) -> None:
        licence = (bundled_clips()[0].path.parent / "LICENCE.md").read_text()
        assert "Carnegie Mellon University" in licence
        for clip in bundled_clips():
            assert clip.path.stem in licence


class TestOwnFiles:
    def test_text_beside_is_the_reference(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "my_talk.wav", silence_then_tone(0.5))
        (tmp_path / "my_talk.txt").write_text("Hello\n  there.\n", encoding="utf-8")
        clip = load_clip(path)
        assert (clip.name, clip.text) == ("my talk", "Hello there.")
        assert clip.duration_s == pytest.approx(1.5, abs=0.01)
        assert clip.voice_start_s == pytest.approx(0.5, abs=0.011)

    def test_no_text_beside(self, tmp_path: Path) -> None:
        clip = load_clip(write_wav(tmp_path / "a.wav", silence_then_tone(0)))
        assert clip.text is None
        assert clip.voice_start_s == pytest.approx(0, abs=0.011)

    @pytest.mark.parametrize(
        ("suffix", "codec"), [("flac", "flac"), ("ogg", "libopus"), ("mp3", "mp3")]
    )
    def test_other_formats(self, tmp_path: Path, suffix: str, codec: str) -> None:
        path = tmp_path / f"a.{suffix}"
        samples = silence_then_tone(0.5)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=16_000)
            assert isinstance(stream, av.AudioStream)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(
                samples.reshape(1, -1), format="s16", layout="mono"
            )
            frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
            frame.pts = 0
            resampler = av.AudioResampler(
                format=stream.format.name,
                layout="mono",
                rate=stream.rate,
                frame_size=stream.frame_size,
            )
            for out in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(out))
            container.mux(stream.encode(None))
        clip = load_clip(path)
        assert clip.voice_start_s == pytest.approx(0.5, abs=0.1)
        assert clip.duration_s == pytest.approx(1.5, abs=0.2)

    def test_equal_names_are_told_apart(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "talk.wav", silence_then_tone(0))
        (tmp_path / "b").mkdir()
        other = Path(shutil.copy(path, tmp_path / "b" / "talk.wav"))
        assert [c.name for c in load_clips([path, other])] == ["talk", "talk 2"]


class TestUnusable:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ClipError, match="No such file") as caught:
            load_clip(tmp_path / "none.wav")
        assert caught.value.path == tmp_path / "none.wav"

    def test_not_audio(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.wav"
        path.write_text("this is no audio")
        with pytest.raises(ClipError, match="cannot be read"):
            load_clip(path)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ClipError):
            load_clip(tmp_path)

    def test_silence(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "a.wav", np.zeros(16_000, np.int16))
        with pytest.raises(ClipError, match="no sound"):
            load_clip(path)

    def test_text_of_unknown_encoding(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "a.wav", silence_then_tone(0))
        path.with_suffix(".txt").write_bytes(b"caf\xe9")
        with pytest.raises(ClipError, match="not readable") as caught:
            load_clip(path)
        assert caught.value.path.suffix == ".txt"
