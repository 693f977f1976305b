"""Whole sources of audio through a session."""

from __future__ import annotations

import gc
import io
import os
import sys
import threading
import traceback
import types
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt
import pytest

from kyutai_stream import (
    AudioFormat,
    AudioFormatError,
    BackendUnavailable,
    ConfigError,
    Final,
    ProtocolError,
    SessionEvent,
    SessionOptions,
    Usage,
)
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord
from kyutai_stream.transcribe import (
    Transcription,
    file_source,
    microphone,
    open_decoder,
    raw_source,
    transcribe,
    transcribe_file,
    transcribe_sync,
)

Samples = npt.NDArray[np.int16]

WORDS = ("one", "two", "three")


def scripted(**more: Any) -> ScriptedBackend:
    words = tuple(
        ScriptedWord(text=text, start=0.3 * n + 0.1, end=0.3 * n + 0.3)
        for n, text in enumerate(WORDS)
    )
    return ScriptedBackend(ConnectionScript(words=words, **more))


def text(events: list[SessionEvent]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Final))


def usage(events: list[SessionEvent]) -> Usage:
    (found,) = (event for event in events if isinstance(event, Usage))
    return found


def hum(count: int) -> npt.NDArray[np.float32]:
    """Samples that are not quiet: a session may leave quiet ones out."""
    return np.tile(np.array([0.1, 0.1, -0.1, -0.1], dtype=np.float32), count // 4)


async def seconds(count: int) -> AsyncIterator[npt.NDArray[np.float32]]:
    for _ in range(10 * count):
        yield hum(2400)


async def everything(running: Transcription) -> list[SessionEvent]:
    async with running:
        return [event async for event in running]


class TestIterables:
    async def test_all_words_come_out_and_all_audio_went_in(self) -> None:
        backend = scripted()
        events = await everything(transcribe(seconds(2), backend=backend))
        assert text(events) == "one two three"
        assert usage(events).audio_pushed_s == pytest.approx(2.0)
        assert backend.open == 0

    async def test_a_reader_to_the_end_needs_no_block(self) -> None:
        backend = scripted()
        running = transcribe(seconds(2), backend=backend)
        events = [event async for event in running]
        assert text(events) == "one two three"
        assert backend.open == 0
        assert [event async for event in running] == []

    async def test_chunks_may_carry_media_time(self) -> None:
        async def late() -> AsyncIterator[tuple[npt.NDArray[np.float32], float]]:
            for n in range(20):
                yield hum(2400), 100.0 + n / 10

        events = await everything(transcribe(late(), backend=scripted()))
        (final,) = (event for event in events if isinstance(event, Final))
        assert final.start == pytest.approx(100.1, abs=0.02)

    async def test_no_more_is_asked_for_than_there_is_room(self) -> None:
        asked = 0

        async def endless() -> AsyncIterator[npt.NDArray[np.float32]]:
            nonlocal asked
            while True:
                asked += 1
                yield hum(2400)

        backend = scripted(stop_reading_after=1)
        options = SessionOptions(input_buffer_s=1.0, send_timeout_s=600.0)
        async with transcribe(endless(), backend=backend, options=options) as running:
            with anyio.move_on_after(0.5):
                async for _ in running:
                    pass
            assert 5 <= asked <= 40

    async def test_an_error_of_the_source_comes_after_what_was_heard(self) -> None:
        async def breaking() -> AsyncIterator[npt.NDArray[np.float32]]:
            async for chunk in seconds(2):
                yield chunk
            raise RuntimeError("the cable")

        events: list[SessionEvent] = []
        with pytest.raises(RuntimeError, match="the cable"):
            async with transcribe(breaking(), backend=scripted()) as running:
                async for event in running:
                    events.append(event)
        assert text(events) == "one two three"

    async def test_an_unseen_error_of_the_source_is_raised_on_leaving(self) -> None:
        failed = anyio.Event()

        async def breaking() -> AsyncIterator[npt.NDArray[np.float32]]:
            yield hum(2400)
            failed.set()
            raise RuntimeError("the cable")

        with pytest.raises(RuntimeError, match="the cable"):
            async with transcribe(breaking(), backend=scripted()):
                await failed.wait()
                await anyio.wait_all_tasks_blocked()

    async def test_wrong_audio_is_refused(self) -> None:
        async def doubles() -> AsyncIterator[Any]:
            yield np.zeros(10)

        with pytest.raises(AudioFormatError, match="float64"):
            await everything(transcribe(doubles(), backend=scripted()))

    async def test_a_failed_session_is_one_error(self) -> None:
        backend = ScriptedBackend(ConnectionScript(refuse=ProtocolError("gibberish")))
        with pytest.raises(ProtocolError, match="gibberish"):
            await everything(transcribe(seconds(60), backend=backend))

    async def test_an_unspoken_language_is_a_wrong_setting(self) -> None:
        pytest.importorskip("pocketsphinx")
        running = transcribe(seconds(1), backend="pocketsphinx", language="fr")
        with pytest.raises(ConfigError, match="does not speak 'fr', only en"):
            await everything(running)


class TestLeaving:
    async def test_the_block_closes_at_once(self) -> None:
        backend = scripted()
        async with transcribe(endless_hum(), backend=backend) as running:
            async for event in running:
                if isinstance(event, Final):
                    break
        assert backend.open == 0
        with pytest.raises(ConfigError, match="once only"):
            async with running:
                pass

    async def test_the_reader_error_comes_out_as_it_is(self) -> None:
        backend = scripted()
        with pytest.raises(ZeroDivisionError):
            async with transcribe(endless_hum(), backend=backend) as running:
                async for event in running:
                    if isinstance(event, Final):
                        _ = 1 / 0
        assert backend.open == 0

    @pytest.mark.parametrize("block", [True, False])
    async def test_cancelling_closes(self, block: bool) -> None:
        backend = scripted()
        running = transcribe(endless_hum(), backend=backend)
        with anyio.move_on_after(0.3) as scope:
            if block:
                await everything(running)
            else:
                async for _ in running:
                    pass
        assert scope.cancelled_caught
        assert backend.open == 0

    async def test_stopping_brings_the_last_words(self) -> None:
        backend = scripted()
        pushed = anyio.Event()

        async def waiting() -> AsyncIterator[npt.NDArray[np.float32]]:
            yield hum(20_000)
            pushed.set()
            await anyio.sleep_forever()

        async with transcribe(waiting(), backend=backend) as running:
            await pushed.wait()
            running.stop()
            with anyio.fail_after(5):
                events = [event async for event in running]
        assert text(events) == "one two three"[: len(text(events))] != ""
        running.stop()

    async def test_stopping_before_the_beginning_takes_nothing(self) -> None:
        running = transcribe(endless_hum(), backend=scripted())
        running.stop()
        assert usage(await everything(running)).audio_pushed_s == 0


async def endless_hum() -> AsyncIterator[npt.NDArray[np.float32]]:
    while True:
        yield hum(2400)
        await anyio.sleep(0.001)


class Collected:
    """Takes the place of a session: keeps what is pushed."""

    def __init__(self) -> None:
        self.pieces: list[npt.NDArray[Any]] = []
        self.at: list[float] = []

    async def push(self, piece: npt.NDArray[Any]) -> None:
        self.pieces.append(np.asarray(piece))
        self.at.append(anyio.current_time())


def read_all(path: Path | int, raw: AudioFormat | None = None) -> npt.NDArray[Any]:
    decoder = open_decoder(path, raw=raw)
    blocks = []
    try:
        while (block := decoder.read()) is not None:
            assert len(block) <= 0.7 * decoder.format.sample_rate
            blocks.append(block)
    finally:
        decoder.close()
    assert decoder.read() is None
    return np.concatenate(blocks)


def encode(path: Path, samples: Samples, codec: str, rate: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            samples[None, :], format="s16", layout="mono"
        )
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        resampler = av.AudioResampler(format=stream.codec_context.format, rate=rate)
        for part in resampler.resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


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


def threads_at_the_pipe() -> int:
    """Threads that wait for a pipe to bring something."""
    stacks = [traceback.extract_stack(one) for one in sys._current_frames().values()]
    return sum(any(line.name == "readinto" for line in stack) for stack in stacks)


class TestFiles:
    async def test_a_file_at_full_speed(self, meeting_path: Path) -> None:
        backend = scripted()
        running = transcribe_file(meeting_path, backend=backend)
        async with running:
            events = [event async for event in running]
            assert running.position_s == running.duration_s
            assert running.started_at is not None
        assert text(events) == "one two three"
        assert usage(events).audio_pushed_s == pytest.approx(running.duration_s or 0)

    async def test_pace_is_that_of_a_microphone(self, tmp_path: Path) -> None:
        path = tmp_path / "x.wav"
        write_wav(path, np.arange(16_000, dtype=np.int16) % 50)
        session: Any = Collected()
        async with file_source(path, pace=4.0)() as source:
            from kyutai_stream.transcribe._feed import Clock

            clock = Clock()
            await source.feed(session, clock)
        assert clock.started_at is not None
        assert max(len(piece) for piece in session.pieces) == 320
        # A piece is never early, and the last one is not much later than due.
        pushed = 0
        for piece, at in zip(session.pieces, session.at, strict=True):
            pushed += len(piece)
            assert at - clock.started_at >= pushed / 16_000 / 4 - 1e-3
        assert pushed == 16_000
        assert session.at[-1] - clock.started_at < 2.0

    @pytest.mark.parametrize("pace", [-1.0, float("nan"), float("inf")])
    def test_a_wrong_pace(self, pace: float, meeting_path: Path) -> None:
        with pytest.raises(ConfigError, match="pace"):
            transcribe_file(meeting_path, pace=pace)

    async def test_a_truncated_file_gives_what_there_is(self, tmp_path: Path) -> None:
        pytest.importorskip("av")
        path = tmp_path / "x.flac"
        encode(path, (np.arange(48_000) % 999).astype(np.int16), "flac", 16_000)
        path.write_bytes(path.read_bytes()[:-2000])
        events = []
        try:
            async with transcribe_file(path, backend=scripted()) as running:
                async for event in running:
                    events.append(event)
        except AudioFormatError as exc:
            assert "cannot be decoded after" in str(exc)
        assert text(events) == "one two three"

    async def test_a_silent_pipe_can_be_left(self) -> None:
        readable, writable = os.pipe()
        try:
            raw = AudioFormat(sample_rate=16_000, encoding="s16le")
            for source in (raw_source(readable, raw), file_source(readable)):
                running = Transcription(source, backend=scripted())
                with anyio.move_on_after(0.3) as scope:
                    await everything(running)
                assert scope.cancelled_caught
                with anyio.fail_after(5):
                    while threads_at_the_pipe():  # noqa: ASYNC110 - it has no event
                        await anyio.sleep(0.01)
        finally:
            os.close(writable)
            os.close(readable)

    async def test_a_pipe_can_be_stopped(self) -> None:
        readable, writable = os.pipe()
        try:
            os.write(writable, (hum(16_000) * 32767).astype(np.int16).tobytes())
            raw = AudioFormat(sample_rate=16_000, encoding="s16le")
            running = Transcription(raw_source(readable, raw), backend=scripted())
            async with running:
                while running.position_s < 1.0:  # noqa: ASYNC110 - it has no event
                    await anyio.sleep(0.01)
                running.stop()
                with anyio.fail_after(5):
                    events = [event async for event in running]
            assert usage(events).audio_pushed_s == pytest.approx(1.0)
        finally:
            os.close(writable)
            os.close(readable)


class TestSync:
    def test_a_file(self, meeting_path: Path) -> None:
        events = list(transcribe_sync(meeting_path, backend=scripted()))
        assert text(events) == "one two three"

    def test_chunks(self) -> None:
        chunks = (hum(2400) for _ in range(20))
        assert text(list(transcribe_sync(chunks, backend=scripted()))) == (
            "one two three"
        )

    def test_leaving_early_leaves_nothing(self) -> None:
        backend = scripted()
        before = set(threading.enumerate())

        def endless() -> Iterator[npt.NDArray[np.float32]]:
            while True:
                yield hum(2400)

        with closing(transcribe_sync(endless(), backend=backend)) as events:
            for event in events:
                if isinstance(event, Final):
                    break
        assert backend.open == 0
        for thread in set(threading.enumerate()) - before:
            # It may be about to end.
            thread.join(timeout=5)
        assert set(threading.enumerate()) <= before

    def test_errors_come_out_as_they_are(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            list(transcribe_sync(tmp_path / "none.wav", backend=scripted()))
        refusing = ScriptedBackend(ConnectionScript(refuse=ProtocolError("gibberish")))
        chunks = (hum(2400) for _ in range(20))
        with pytest.raises(ProtocolError, match="gibberish"):
            list(transcribe_sync(chunks, backend=refusing))


class TestMicrophone:
    async def test_what_portaudio_brings_goes_in(
        self, portaudio: Callable[[int], None]
    ) -> None:
        portaudio(100)
        running = Transcription(microphone(), backend=scripted())
        async with running:
            with anyio.fail_after(10):
                while running.position_s < 2.0:  # noqa: ASYNC110 - it has no event
                    await anyio.sleep(0.01)
                running.stop()
                events = [event async for event in running]
        assert text(events) == "one two three"
        assert usage(events).audio_pushed_s == pytest.approx(2.0, abs=0.01)

    async def test_a_failed_session_ends_it(
        self, portaudio: Callable[[int], None]
    ) -> None:
        portaudio(100_000)
        backend = ScriptedBackend(ConnectionScript(refuse=ProtocolError("gibberish")))
        with pytest.raises(ProtocolError, match="gibberish"):
            await everything(Transcription(microphone(), backend=backend))

    async def test_no_such_device(self, portaudio: Callable[[int], None]) -> None:
        portaudio(1)
        with pytest.raises(BackendUnavailable, match="no microphone"):
            await everything(Transcription(microphone("none"), backend=scripted()))

    async def test_without_portaudio(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Finder:
            def find_spec(self, name: str, *_: object) -> None:
                if name == "sounddevice":
                    raise OSError("PortAudio library not found")

        monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
        with pytest.raises(BackendUnavailable, match="apt install libportaudio2"):
            await everything(Transcription(microphone(), backend=scripted()))

    async def test_without_sounddevice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sounddevice", None)
        with pytest.raises(BackendUnavailable, match=r"kyutai-stream\[mic\]"):
            await everything(Transcription(microphone(), backend=scripted()))


@pytest.fixture
def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    real = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *a: None if name == "av" else real(name, *a)
    )


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A stand-in for sounddevice whose microphone brings so many blocks of 20 ms."""

    def install(blocks: int) -> None:
        fake: Any = types.ModuleType("sounddevice")

        class PortAudioError(Exception):
            pass

        class InputStream:
            def __init__(self, *, blocksize: int, callback: Any, **_: Any) -> None:
                self.closing = threading.Event()

                def play() -> None:
                    for _ in range(blocks):
                        if self.closing.wait(0.001):
                            return
                        block = np.resize(hum(4), (blocksize, 1))
                        callback(block, blocksize, None, None)

                self.thread = threading.Thread(target=play)

            def __enter__(self) -> InputStream:
                self.thread.start()
                return self

            def __exit__(self, *_: object) -> None:
                self.closing.set()
                self.thread.join()

        def query_devices(device: object, kind: str) -> dict[str, float]:
            if device is not None:
                raise ValueError("No input device matching 'none'")
            return {"default_samplerate": 44_100.0}

        fake.PortAudioError = PortAudioError
        fake.InputStream = InputStream
        fake.query_devices = query_devices
        monkeypatch.setitem(sys.modules, "sounddevice", fake)

    return install


class pipe:
    """A pipe that brings these bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __enter__(self) -> int:
        readable, writable = os.pipe()

        def write() -> None:
            with io.FileIO(writable, "wb") as file:
                view = memoryview(self.data)
                while view:
                    view = view[file.write(view) :]

        self.readable = readable
        self.thread = threading.Thread(target=write)
        self.thread.start()
        return readable

    def __exit__(self, *_: object) -> None:
        self.thread.join()
        os.close(self.readable)
        gc.collect()


def write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams(
            (samples.shape[1] if samples.ndim == 2 else 1, 2, 16_000, 0, "NONE", "")
        )
        file.writeframes(samples.tobytes())
