"""Frames to chunks on one timeline, and files to tracks."""

from __future__ import annotations

import fractions
import wave
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path

import anyio
import av
import numpy as np
import numpy.typing as npt
import pytest
from aiortc.mediastreams import MediaStreamError
from hypothesis import given
from hypothesis import strategies as st

from spreed_signaling.media import SAMPLE_RATE, AudioChunk, AudioFile, MediaError
from spreed_signaling.media.audio import FrameConverter

Floats = npt.NDArray[np.float32]

FRAME = 960
"""Samples of 20 ms at 48 kHz."""


def make_frame(
    samples: npt.NDArray[np.int16], pts: int | None, *, rate: int = 48_000
) -> av.AudioFrame:
    """A frame as aiortc's decoder makes it: interleaved int16, stereo."""
    stereo = np.repeat(samples, 2).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(stereo, format="s16", layout="stereo")
    frame.sample_rate = rate
    frame.pts = pts
    frame.time_base = fractions.Fraction(1, rate)
    return frame


def silence(length: int = FRAME) -> npt.NDArray[np.int16]:
    return np.zeros(length, np.int16)


def to_int16(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    return (signal * 32767).astype(np.int16)


def convert_all(
    converter: FrameConverter, signal: npt.NDArray[np.int16], *, size: int = FRAME
) -> list[AudioChunk]:
    return [
        converter.convert(make_frame(signal[at : at + size], at), at / 48_000)
        for at in range(0, len(signal) - size + 1, size)
    ]


def assert_consistent(chunks: list[AudioChunk]) -> None:
    """Samples plus gaps are media time, chunk by chunk."""
    position = 0
    for chunk in chunks:
        position += chunk.gap_samples
        assert round(chunk.media_time_s * SAMPLE_RATE) == position
        assert chunk.samples.dtype == np.float32 and chunk.samples.ndim == 1
        position += len(chunk.samples)


class TestResampling:
    @pytest.mark.parametrize("frequency", [100, 440, 3_000, 8_000])
    @pytest.mark.parametrize("size", [120, FRAME, 2_880])
    def test_a_tone_keeps_its_shape(self, frequency: int, size: int) -> None:
        """SNR against the same tone made at 24 kHz: no click at any border."""
        t = np.arange(48_000) / 48_000
        tone = to_int16(0.5 * np.sin(2 * np.pi * frequency * t))
        chunks = convert_all(FrameConverter(), tone, size=size)
        got = np.concatenate([chunk.samples for chunk in chunks])
        assert_consistent(chunks)
        assert snr_of_tone(got[2_000:-2_000], frequency) > 50
        # Two equal channels are as loud as one.
        loudness = np.sqrt(2 * np.mean(got[2_000:-2_000] ** 2))
        assert loudness == pytest.approx(0.5, rel=0.02)

    def test_what_cannot_be_represented_is_filtered_out(self) -> None:
        t = np.arange(48_000) / 48_000
        tone = to_int16(0.5 * np.sin(2 * np.pi * 16_000 * t))
        chunks = convert_all(FrameConverter(), tone)
        got = np.concatenate([chunk.samples for chunk in chunks])[500:]
        # Without a filter it would come out at 8 kHz with a level of 0.35.
        assert np.sqrt(np.mean(got**2)) < 0.01

    def test_both_channels_are_mixed(self) -> None:
        left, right = np.full(FRAME, 16_000, np.int16), silence()
        stereo = np.stack([left, right], axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(stereo, format="s16", layout="stereo")
        frame.sample_rate = 48_000
        frame.pts = 0
        chunk = FrameConverter().convert(frame, 0.0)
        assert chunk.samples[200:].mean() == pytest.approx(8_000 / 32_768, rel=0.02)

    def test_another_kind_of_frame_is_taken_in_the_same_timeline(self) -> None:
        converter = FrameConverter()
        chunks = convert_all(converter, silence(10 * FRAME))
        narrow = make_frame(silence(160), None, rate=8_000)
        chunks.append(converter.convert(narrow, 0.2))
        assert_consistent(chunks)
        total = sum(len(chunk.samples) + chunk.gap_samples for chunk in chunks)
        assert total == pytest.approx(0.22 * SAMPLE_RATE, abs=0.003 * SAMPLE_RATE)


def snr_of_tone(signal: Floats, frequency: int) -> float:
    """Power of the tone over the power of everything else, dB."""
    t = np.arange(len(signal)) / SAMPLE_RATE
    basis = np.stack(
        [np.sin(2 * np.pi * frequency * t), np.cos(2 * np.pi * frequency * t)], axis=1
    )
    weights, *_ = np.linalg.lstsq(basis, signal.astype(np.float64), rcond=None)
    fitted = basis @ weights
    noise = np.sum((signal - fitted) ** 2)
    return float(10 * np.log10(np.sum(fitted**2) / max(noise, 1e-20)))


class TestTimeline:
    def convert(
        self, frames: list[tuple[int | None, float]], converter: FrameConverter
    ) -> list[int]:
        """Feed silent 20 ms frames (pts, arrival); return the gaps."""
        chunks = [
            converter.convert(make_frame(silence(), pts), now) for pts, now in frames
        ]
        assert_consistent(chunks)
        return [chunk.gap_samples for chunk in chunks]

    def test_no_gap_without_a_jump_however_late_frames_come(self) -> None:
        frames = [(n * FRAME, n * 0.02 + (n % 3)) for n in range(6)]
        assert self.convert(list(frames), FrameConverter()) == [0] * 6

    def test_a_jump_is_a_gap_of_its_length(self) -> None:
        frames = [(0, 0.0), (FRAME + 48_000, 1.04), (2 * FRAME + 48_000, 1.06)]
        assert self.convert(list(frames), FrameConverter()) == [0, SAMPLE_RATE, 0]

    def test_the_longest_believable_jump(self) -> None:
        ten = 10 * 48_000
        frames = [(0, 0.0), (FRAME + ten, 3.0)]
        assert self.convert(list(frames), FrameConverter()) == [0, 10 * SAMPLE_RATE]

    @pytest.mark.parametrize("pts", [5, 2**32 + 5, 11 * 48_000 + FRAME, 2**32 - 7])
    def test_beyond_it_the_clock_decides(self, pts: int) -> None:
        """A sender that counts anew: half a second passed, 20 ms of it are here."""
        frames = [(1_000_000, 7.0), (1_000_000 + FRAME, 7.02), (pts, 7.52)]
        if pts == 5:
            frames.append((pts + FRAME, 7.54))
        gaps = self.convert(list(frames), FrameConverter())
        assert gaps[:3] == [0, 0, round(0.48 * SAMPLE_RATE)]
        assert gaps[3:] in ([], [0])

    def test_a_pause_of_a_minute_is_a_gap_of_a_minute(self) -> None:
        frames = [(0, 0.0), (FRAME + 60 * 48_000, 60.02)]
        assert self.convert(list(frames), FrameConverter()) == [0, 60 * SAMPLE_RATE]

    def test_a_new_stream_goes_on_by_the_clock(self) -> None:
        converter = FrameConverter()
        first = self.convert([(0, 0.0), (FRAME, 0.02)], converter)
        converter.restart()
        chunk = converter.convert(make_frame(silence(), 48_000), 2.02)
        assert first == [0, 0]
        assert chunk.gap_samples == round(1.98 * SAMPLE_RATE)
        assert chunk.media_time_s == pytest.approx(2.02, abs=0.002)

    def test_a_new_stream_cannot_go_back_in_time(self) -> None:
        converter = FrameConverter()
        self.convert([(0, 0.0), (FRAME, 0.02)], converter)
        converter.restart()
        assert converter.convert(make_frame(silence(), 0), 0.021).gap_samples == 0

    @given(
        st.lists(
            st.tuples(st.sampled_from([120, 480, 960, 2_880]), st.integers(0, 4_999)),
            min_size=1,
            max_size=40,
        )
    )
    def test_nothing_is_lost_to_rounding(self, plan: list[tuple[int, int]]) -> None:
        converter, pts, chunks = FrameConverter(), 0, []
        for length, jump in plan:
            pts += jump
            chunks.append(converter.convert(make_frame(silence(length), pts), 0.0))
            pts += length
        assert_consistent(chunks)
        total = sum(len(chunk.samples) + chunk.gap_samples for chunk in chunks)
        held_back = 0.001 * SAMPLE_RATE
        # A jump before the very first frame is nobody's loss.
        expected = (pts - plan[0][1]) / 2
        pending = converter._pending_gap
        assert expected - held_back - 1 <= total + pending <= expected


def write_tone(path: Path, seconds: float, rate: int = 24_000) -> Path:
    t = np.arange(round(seconds * rate)) / rate
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(to_int16(0.5 * np.sin(2 * np.pi * 440 * t)).tobytes())
    return path


async def read_track(track: AudioFile, frames: int) -> npt.NDArray[np.int16]:
    with anyio.fail_after(10):
        got = [await track.recv() for _ in range(frames)]
    times = [frame.pts or 0 for frame in got]
    assert all(later - one == FRAME for one, later in pairwise(times))
    stereo = np.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in got])
    assert np.array_equal(stereo[:, 0], stereo[:, 1])
    return stereo[:, 0]


def level(samples: npt.NDArray[np.int16]) -> float:
    return float(np.sqrt(np.mean(samples.astype(float) ** 2)) / 32_768)


class TestAudioFile:
    async def test_it_plays_lead_file_and_silence(self, tmp_path: Path) -> None:
        track = AudioFile(write_tone(tmp_path / "tone.wav", 0.1), lead_s=0.06)
        started = anyio.current_time()
        got = await read_track(track, 15)
        # In real time: the fifteenth frame is due after 14 x 20 ms.
        assert anyio.current_time() - started >= 0.27
        assert level(got[: 3 * FRAME]) == 0
        assert level(got[3 * FRAME : 8 * FRAME]) == pytest.approx(0.35, abs=0.03)
        assert level(got[10 * FRAME :]) == 0
        assert track.finished and track.first_voiced_at is not None
        assert track.first_voiced_at - started == pytest.approx(0.06, abs=0.05)
        await track.wait_finished()
        track.stop()

    async def test_a_paused_file_waits(self, tmp_path: Path) -> None:
        track = AudioFile(write_tone(tmp_path / "tone.wav", 1.0), paused=True)
        assert level(await read_track(track, 3)) == 0
        assert track.first_voiced_at is None
        track.resume()
        assert level(await read_track(track, 3)) > 0.1
        track.stop()

    async def test_it_goes_on_where_it_was_after_a_pause_of_the_reader(
        self, tmp_path: Path
    ) -> None:
        track = AudioFile(write_tone(tmp_path / "tone.wav", 1.0))
        await read_track(track, 2)
        assert track._started_at is not None
        track._started_at -= 5.0
        started = anyio.current_time()
        await read_track(track, 6)
        # Not everything at once: the sixth is due 100 ms after the first.
        assert anyio.current_time() - started >= 0.09
        track.stop()

    async def test_a_stopped_track_ends(self, tmp_path: Path) -> None:
        track = AudioFile(write_tone(tmp_path / "tone.wav", 5.0))
        await read_track(track, 2)
        track.stop()
        with anyio.fail_after(5):
            await track.wait_finished()
            with pytest.raises(MediaStreamError):
                await track.recv()
        assert not track.finished

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match="no-such.wav"):
            AudioFile(tmp_path / "no-such.wav")

    def test_no_audio_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "text.txt"
        path.write_text("not a sound " * 100)
        with pytest.raises(MediaError):
            AudioFile(path)

    def test_a_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "picture.png"
        with av.open(str(path), "w", format="image2") as container:
            stream = container.add_stream("png", rate=1)
            stream.width = stream.height = 16
            stream.pix_fmt = "rgb24"
            picture = np.zeros((16, 16, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        with pytest.raises(MediaError, match="holds no audio"):
            AudioFile(path)

    async def test_a_file_that_breaks_off_is_reported(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        track = AudioFile(write_tone(tmp_path / "tone.wav", 1.0))

        def broken() -> Generator[npt.NDArray[np.int16], None, None]:
            raise av.error.InvalidDataError(1, "broken", "tone.wav")
            yield

        track._frames = broken()
        assert level(await read_track(track, 2)) == 0
        assert not track.finished and "to its end" in caplog.text
        with pytest.raises(MediaError, match="to its end"):
            await track.wait_finished()
        track.stop()
