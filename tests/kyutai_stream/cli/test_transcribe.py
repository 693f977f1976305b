"""`kyutai-stream transcribe` as people run it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jiwer
import pytest
from typer.testing import Result

from kyutai_stream import Final, Gap, Partial, Session, SessionEvent
from kyutai_stream.cli._screens import Status
from kyutai_stream.cli._transcribe import Job
from kyutai_stream.cli._transcribe import transcribe as work
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord
from kyutai_stream.testing.virtual_time import VirtualTimeLoop
from kyutai_stream.transcribe import FeedSource

from .running import (
    COMMAND,
    TEN_WORDS,
    assert_one_line,
    final_text,
    records,
    s16,
    samples,
)

Program = Callable[..., "subprocess.CompletedProcess[Any]"]
Invoke = Callable[..., Result]


class TestPiped:
    def test_json_lines(self, program: Program, five_seconds: Path) -> None:
        done = program("transcribe", five_seconds, "-b", "scripted-test")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert final_text(done.stdout) == TEN_WORDS
        captions = [one for one in records(done.stdout) if "text" in one]
        for one in captions:
            assert {"emission_time", "start", "end", "text", "is_final"} <= set(one)
        emitted = [one["emission_time"] for one in records(done.stdout)]
        assert emitted == sorted(emitted)
        events = {one["event"] for one in records(done.stdout) if "event" in one}
        assert {"state", "usage"} <= events

    def test_plain_lines(self, invoke: Invoke, five_seconds: Path) -> None:
        done = invoke("transcribe", five_seconds, "-b", "scripted-test", "--plain")
        lines = done.stdout.splitlines()
        assert lines[0].startswith(">> w0")
        assert {line[:3] for line in lines} == {">> ", "## "}
        finals = " ".join(line[3:] for line in lines if line.startswith("##"))
        assert finals == TEN_WORDS

    def test_all_files(
        self, invoke: Invoke, five_seconds: Path, tmp_path: Path
    ) -> None:
        names = [f"out.{ending}" for ending in ("srt", "vtt", "jsonl", "txt")]
        options = [part for name in names for part in ("-o", name)]
        done = invoke(
            "transcribe",
            five_seconds,
            "-b",
            "scripted-test",
            "--speaker",
            "Ada",
            *options,
        )
        assert done.exit_code == 0, done.stderr
        assert "00:00:00,000 --> " in (tmp_path / "out.srt").read_text()
        assert "<v Ada>w0" in (tmp_path / "out.vtt").read_text()
        assert " ".join((tmp_path / "out.txt").read_text().split()) == TEN_WORDS
        assert final_text((tmp_path / "out.jsonl").read_text()) == TEN_WORDS

    def test_the_default_backend_says_what_it_is(
        self, program: Program, meeting_path: Path
    ) -> None:
        done = program("transcribe", meeting_path)
        assert done.returncode == 0
        assert "no speech recogniser configured" in done.stderr
        assert "[speaking" in final_text(done.stdout)

    def test_the_environment_chooses_the_backend(
        self, invoke: Invoke, five_seconds: Path
    ) -> None:
        env = {
            "KYUTAI_STREAM_BACKEND": "picky-test",
            "KYUTAI_STREAM_URL": "ws://localhost:1",
            "KYUTAI_STREAM_API_KEY": "hunter2",
            "MODAL_KEY": "wk-1",
        }
        # It takes no settings: those of the environment are not meant for it.
        done = invoke("transcribe", five_seconds, env=env)
        assert done.exit_code == 0, done.stderr
        done = invoke("transcribe", five_seconds, "--url", "ws://x", env=env)
        assert "refuses its settings" in assert_one_line(done, 2)
        assert "hunter2" not in done.stderr

    def test_a_reader_that_has_enough(
        self, environment: dict[str, str], five_seconds: Path
    ) -> None:
        process = subprocess.Popen(
            [
                *COMMAND,
                "transcribe",
                five_seconds,
                "-b",
                "scripted-test",
                "--pace",
                "2",
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(20) == 0

    def test_pocketsphinx_hears_the_bundled_speech(
        self, program: Program, meeting_path: Path, meeting_text: str
    ) -> None:
        pytest.importorskip("pocketsphinx")
        done = program("transcribe", meeting_path, "-b", "pocketsphinx", "-l", "en")
        assert done.returncode == 0, done.stderr
        reference = re.sub(r"[^a-z ]", "", " ".join(meeting_text.lower().split()))
        assert jiwer.wer(reference, final_text(done.stdout)) <= 0.10


class TestStandardInput:
    def test_a_container(self, program: Program, five_seconds: Path) -> None:
        done = program(
            "transcribe", "-", "-b", "scripted-test", text=False,
            input=five_seconds.read_bytes(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert final_text(done.stdout.decode()) == TEN_WORDS

    @pytest.mark.parametrize("encoding", ["s16le", "f32le"])
    def test_raw_samples(self, program: Program, encoding: str) -> None:
        count = 5 * 16_000 * 2
        audio = s16(count) if encoding == "s16le" else samples(count).tobytes()
        raw = ("--raw", encoding, "--rate", "16000", "--channels", "2")
        done = program(
            "transcribe", "-", "-b", "scripted-test", *raw, text=False,
            input=audio,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert final_text(done.stdout.decode()) == TEN_WORDS

    def test_half_a_sample_is_said_after_the_words(self, program: Program) -> None:
        done = program(
            "transcribe", "-", "-b", "scripted-test", "--raw", "s16le", text=False,
            input=s16(24_000 * 5) + b"x",
        )  # fmt: skip
        assert done.returncode == 1
        assert final_text(done.stdout.decode()) == TEN_WORDS
        assert b"1 bytes left over" in done.stderr


class TestFailures:
    def test_a_missing_file(self, invoke: Invoke) -> None:
        done = invoke("transcribe", "none.wav", "-b", "scripted-test")
        assert "none.wav: No such file" in assert_one_line(done, 1)

    def test_what_is_no_audio(self, invoke: Invoke, tmp_path: Path) -> None:
        (tmp_path / "x.wav").write_text("hello")
        done = invoke("transcribe", "x.wav", "-b", "scripted-test")
        assert "x.wav is no audio" in assert_one_line(done, 1)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["-b", "nothing"], "no backend is called 'nothing'"),
            (["-b", "pocketsphinx", "-l", "fr"], "does not speak 'fr', only en"),
            (["-b", "pocketsphinx", "-l", "xx"], "does not speak 'xx', only en"),
            (["-b", "scripted-test", "-o", "out.doc"], "must end in one of .srt"),
            (["-b", "scripted-test", "-o", "no/such/out.srt"], "there is no folder"),
            (["-b", "scripted-test", "--pace", "-1"], "pace must be 0 or more"),
            (["-b", "scripted-test", "--raw", "mp3"], "--raw is f32le or s16le"),
            (["-b", "scripted-test", "--set", "url"], "--set takes NAME=VALUE"),
            (["-b", "scripted-test", "--mic"], "name one of: a file"),
        ],
    )
    def test_wrong_usage(
        self, arguments: list[str], words: str, invoke: Invoke, five_seconds: Path
    ) -> None:
        done = invoke("transcribe", five_seconds, *arguments)
        assert words in assert_one_line(done, 2)
        assert done.stdout == "" or "pocketsphinx" in arguments

    def test_no_arguments(self, invoke: Invoke) -> None:
        assert invoke("transcribe", "-b", "picky-test").exit_code == 2
        assert invoke("transcribe", "x", "--nonsense").exit_code == 2
        assert invoke().exit_code == 2

    def test_a_refused_key_names_the_option_not_the_key(
        self, invoke: Invoke, five_seconds: Path
    ) -> None:
        done = invoke(
            "transcribe", five_seconds, "-b", "locked-test", "--api-key", "hunter2"
        )
        line = assert_one_line(done, 1)
        assert "key refused" in line
        assert "--api-key" in line
        assert "hunter2" not in done.stdout + done.stderr

    def test_a_broken_plugin(self, invoke: Invoke, five_seconds: Path) -> None:
        done = invoke("transcribe", five_seconds, "-b", "broken-test")
        assert "half built" in assert_one_line(done, 1)

    def test_the_microphone_without_portaudio(self, program: Program) -> None:
        try:
            import sounddevice  # noqa: F401 - whether it loads is the question
        except (ImportError, OSError):
            done = program("transcribe", "--mic", "-b", "scripted-test")
            assert "microphone needs" in assert_one_line(done, 1)
        else:
            pytest.skip("PortAudio is here")

    def test_secrets_are_not_in_the_help(self, program: Program) -> None:
        env = {"KYUTAI_STREAM_API_KEY": "hunter2", "MODAL_SECRET": "hunter2"}
        done = program("transcribe", "--help", env=env)
        assert done.returncode == 0
        assert "KYUTAI_STREAM_API_KEY" in done.stdout
        assert "hunter2" not in done.stdout


class Recorded:
    """A screen that keeps everything."""

    def __init__(self) -> None:
        self.events: list[SessionEvent] = []
        self.warnings: list[str] = []

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: SessionEvent, at: float) -> None:
        self.events.append(event)

    def tick(self, status: Status) -> None:
        pass

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class TestGaps:
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        """Minutes of audio cost no time."""
        return ("asyncio", {"loop_factory": VirtualTimeLoop})

    @pytest.mark.parametrize(("strict", "code"), [(False, 0), (True, 1)])
    async def test_a_gap_is_a_warning(self, strict: bool, code: int) -> None:
        async def flood(session: Session, clock: object) -> None:
            for _ in range(1800):
                session.try_push(samples(2400))

        @asynccontextmanager
        async def source() -> AsyncGenerator[FeedSource, None]:
            yield FeedSource(feed=flood)

        screen = Recorded()
        word = ScriptedWord(text="one", start=0.1, end=0.3)
        job = Job(
            source=source,
            backend=ScriptedBackend(ConnectionScript(words=(word,))),
            language=None,
            speaker="",
            outputs=[],
            strict=strict,
        )
        assert await work(job, screen) == code
        assert any(isinstance(event, Gap) for event in screen.events)
        assert any("were not transcribed" in text for text in screen.warnings)
        kinds = {type(event) for event in screen.events}
        assert {Partial, Final} & kinds
