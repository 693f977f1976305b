"""Files, pipes and the microphone through a session."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from kyutai_stream import (
    AudioFormat,
    AudioFormatError,
    BackendUnavailable,
    ConfigError,
    ProtocolError,
)
from kyutai_stream.testing import ConnectionScript, ScriptedBackend
from kyutai_stream.transcribe import (
    Transcription,
    file_source,
    microphone,
    raw_source,
    transcribe_file,
)

from .sources import (
    Collected,
    encode,
    everything,
    hum,
    scripted,
    text,
    usage,
    write_wav,
)


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
