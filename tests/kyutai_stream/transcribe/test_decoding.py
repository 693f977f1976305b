"""Files and pipes become samples."""

from __future__ import annotations

import os
import threading
import wave
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kyutai_stream import (
    AudioFormat,
    AudioFormatError,
    BackendUnavailable,
)
from kyutai_stream.transcribe import (
    open_decoder,
)

from .sources import (
    Samples,
    encode,
    pipe,
    read_all,
    write_wav,
)


class TestDecoding:
    def test_wav_through_pyav_is_exact(
        self, meeting_path: Path, meeting_16k: Samples
    ) -> None:
        pytest.importorskip("av")
        decoder = open_decoder(meeting_path)
        assert decoder.format.sample_rate == 16_000
        assert decoder.duration_s == pytest.approx(len(meeting_16k) / 16_000)
        decoder.close()
        heard = np.round(read_all(meeting_path) * 32768).astype(np.int16)
        assert np.array_equal(heard, meeting_16k)

    def test_wav_without_pyav_is_exact(
        self, meeting_path: Path, meeting_16k: Samples, without_pyav: None
    ) -> None:
        assert np.array_equal(read_all(meeting_path)[:, 0], meeting_16k)

    @pytest.mark.parametrize(
        ("suffix", "codec", "rate"),
        [("flac", "flac", 44_100), ("ogg", "libopus", 48_000), ("mp3", "mp3", 32_000)],
    )
    def test_other_formats(
        self, suffix: str, codec: str, rate: int, tmp_path: Path
    ) -> None:
        tone = np.sin(np.arange(rate) * 2 * np.pi * 440 / rate)
        path = tmp_path / f"tone.{suffix}"
        encode(path, (tone * 16_000).astype(np.int16), codec, rate)
        heard = read_all(path)
        assert heard.dtype == np.float32
        assert len(heard) / rate == pytest.approx(1.0, abs=0.1)
        assert np.sqrt(np.mean(heard**2)) == pytest.approx(0.345, rel=0.1)

    def test_stereo_is_mixed_down(self, tmp_path: Path) -> None:
        path = tmp_path / "stereo.wav"
        left = np.full(8000, 8192, dtype=np.int16)
        write_wav(path, np.stack((left, -left), axis=1))
        assert np.abs(read_all(path)).max() < 1e-3

    def test_what_is_no_audio(self, tmp_path: Path) -> None:
        pytest.importorskip("av")
        path = tmp_path / "notes.mp3"
        path.write_text("not audio at all " * 100)
        with pytest.raises(AudioFormatError, match=r"notes\.mp3 is no audio"):
            open_decoder(path)

    def test_a_missing_file_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            open_decoder(tmp_path / "none.wav")

    def test_without_pyav_other_formats_name_the_extra(
        self, tmp_path: Path, without_pyav: None
    ) -> None:
        path = tmp_path / "x.mp3"
        path.write_bytes(b"ID3" + bytes(100))
        with pytest.raises(BackendUnavailable, match=r"kyutai-stream\[cli\]"):
            open_decoder(path)

    def test_without_pyav_wider_samples_name_the_extra(
        self, tmp_path: Path, without_pyav: None
    ) -> None:
        path = tmp_path / "x.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 3, 16_000, 0, "NONE", ""))
            file.writeframes(bytes(300))
        with pytest.raises(BackendUnavailable, match="24-bit"):
            open_decoder(path)

    @pytest.mark.parametrize("encoding", ["s16le", "f32le"])
    def test_raw_samples(self, encoding: Any, tmp_path: Path) -> None:
        dtype = "<i2" if encoding == "s16le" else "<f4"
        wanted = (np.arange(60_000) % 100).reshape(-1, 2).astype(dtype)
        path = tmp_path / "x.raw"
        path.write_bytes(wanted.tobytes())
        raw = AudioFormat(sample_rate=8000, channels=2, encoding=encoding)
        assert np.array_equal(read_all(path, raw), wanted)
        with closing(open_decoder(path, raw=raw)) as decoder:
            assert decoder.duration_s == 30_000 / 8000

    def test_raw_samples_that_do_not_come_out_even(self, tmp_path: Path) -> None:
        path = tmp_path / "x.raw"
        path.write_bytes(bytes(1001))
        with pytest.raises(AudioFormatError, match="1 bytes left over"):
            read_all(path, AudioFormat(encoding="s16le"))

    def test_a_pipe_with_a_container(
        self, meeting_path: Path, meeting_16k: Samples
    ) -> None:
        pytest.importorskip("av")
        with pipe(meeting_path.read_bytes()) as fd:
            assert len(read_all(fd)) == len(meeting_16k)

    def test_a_pipe_without_pyav(
        self, meeting_path: Path, meeting_16k: Samples, without_pyav: None
    ) -> None:
        with pipe(meeting_path.read_bytes()) as fd:
            assert np.array_equal(read_all(fd)[:, 0], meeting_16k)

    def test_a_named_pipe(self, tmp_path: Path) -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        wanted = np.arange(30_000, dtype="<i2")

        def write() -> None:
            path.write_bytes(wanted.tobytes())

        writer = threading.Thread(target=write)
        decoder = open_decoder(path, raw=AudioFormat(encoding="s16le"))
        writer.start()
        blocks = []
        while (block := decoder.read()) is not None:
            blocks.append(block)
        writer.join()
        decoder.close()
        assert np.array_equal(np.concatenate(blocks)[:, 0], wanted)
