"""`kyutai-stream transcribe` as people run it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import wave
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import Result

from kyutai_stream import Final, Gap, Partial, Session, SessionEvent
from kyutai_stream.cli._screens import Status
from kyutai_stream.cli._transcribe import Job
from kyutai_stream.cli._transcribe import transcribe as work
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord
from kyutai_stream.testing.virtual_time import VirtualTimeLoop
from kyutai_stream.transcribe import FeedSource

Program = Callable[..., "subprocess.CompletedProcess[Any]"]
Invoke = Callable[..., Result]

COMMAND = (sys.executable, "-m", "kyutai_stream.cli")


@pytest.fixture
def five_seconds(tmp_path: Path) -> Path:
    return hum(tmp_path / "five.wav", 5.0)


def samples(count: int) -> npt.NDArray[np.float32]:
    """Samples that are not quiet: a session may leave quiet ones out."""
    return np.tile(np.array([0.1, 0.1, -0.1, -0.1], dtype=np.float32), count // 4)


def s16(count: int) -> bytes:
    return (samples(count) * 32767).astype("<i2").tobytes()


def hum(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(s16(round(seconds * 24_000)))
    return path


def records(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def final_text(out: str) -> str:
    return " ".join(one["text"] for one in records(out) if one.get("is_final"))


TEN_WORDS = "w0 w1 w2 w3 w4. w5 w6 w7 w8 w9."


def assert_one_line(done: subprocess.CompletedProcess[str] | Result, code: int) -> str:
    found = done.exit_code if isinstance(done, Result) else done.returncode
    assert found == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("kyutai-stream: ")
    return line


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


class TestInterrupts:
    def test_ctrl_c_brings_the_last_words_and_the_files(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        out = tmp_path / "out.txt"
        with started(
            environment, "-", "-b", "scripted-test", "--raw", "s16le", "-o", str(out),
            stdin=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(s16(2 * 24_000))
            process.stdin.flush()
            while b'"is_final": false' not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=15)
            assert process.returncode == 0, errors
        assert b"Traceback" not in errors
        assert b'"is_final": true' in rest
        assert out.read_text().startswith("w0 w1")

    def test_ctrl_c_while_nothing_has_come(self, environment: dict[str, str]) -> None:
        with started(
            environment, "-", "-b", "scripted-test", stdin=subprocess.PIPE
        ) as process:
            # Until it listens to signals there is nothing to see from outside.
            wait_for_handler(process, signal.SIGINT)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=15)
        assert b"Traceback" not in errors
        assert process.returncode in (0, 130)

    def test_a_server_that_never_answers_does_not_hold_us(
        self, environment: dict[str, str]
    ) -> None:
        arguments = ("-", "-b", "mute-test", "--raw", "s16le")
        with started(environment, *arguments, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert b"connecting" in process.stdout.readline()
            # More than a pipe holds: when this is through, some has been pushed.
            process.stdin.write(s16(24_000 * 20))
            process.stdin.flush()
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)  # Two signals at once are one.
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=9)
        assert b"stopped before all words had come" in errors
        assert process.returncode == 0


def wait_for_handler(process: subprocess.Popen[bytes], number: int) -> None:
    """Wait until the process catches the signal by a handler of asyncio's."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc here")
    wakeup = Path(f"/proc/{process.pid}/fd")
    for _ in range(500):
        caught = re.search(r"SigCgt:\s*(\w+)", status.read_text())
        # SIGTERM too is caught only once our own receiver is there.
        wanted = 1 << (number - 1) | 1 << (signal.SIGTERM - 1)
        if caught and int(caught[1], 16) & wanted == wanted and wakeup.exists():
            return
        time.sleep(0.02)
    pytest.fail("the program never listened to signals")


@contextmanager
def started(
    environment: dict[str, str], *arguments: str, **more: Any
) -> Iterator[subprocess.Popen[bytes]]:
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*COMMAND, "transcribe", *arguments]
    with subprocess.Popen(command, env=environment, **(streams | more)) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class Terminal:
    """A terminal; `read` gives everything until the program has ended."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()

    def read(self, process: subprocess.Popen[bytes]) -> str:
        os.close(self.theirs)
        parts = []
        end = time.monotonic() + 30
        while time.monotonic() < end:
            ready, _, _ = select.select([self.ours], [], [], 0.1)
            if not ready:
                continue
            try:
                part = os.read(self.ours, 65536)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
        os.close(self.ours)
        process.wait(10)
        return b"".join(parts).decode()


class TestTerminal:
    def test_live_captions(
        self, environment: dict[str, str], five_seconds: Path
    ) -> None:
        terminal = Terminal()
        arguments = (str(five_seconds), "-b", "scripted-test", "--pace", "4")
        with started(environment, *arguments, stdout=terminal.theirs) as process:
            seen = terminal.read(process)
        assert process.returncode == 0
        assert "{" not in seen
        # The tail is dim and redrawn in place; finals are plain.
        assert re.search(r"\x1b\[2mw0", seen)
        assert "\x1b[1A" in seen
        assert re.search(r"\x1b\[2Kw0 w1 w2 w3 w4\.[^\x1b]*\r?\n", seen)
        # A final's words are not shown dim below it any more.
        assert not re.search(r"\x1b\[2Kw0[^\x1b]*\r?\n\x1b\[2mw0", seen)
        assert "ready · scripted" in seen
        assert "/ 0:05 (" in seen

    def test_no_color_appends_only(
        self, environment: dict[str, str], five_seconds: Path
    ) -> None:
        terminal = Terminal()
        with started(
            environment | {"NO_COLOR": "1"}, str(five_seconds), "-b", "scripted-test",
            stdout=terminal.theirs,
        ) as process:  # fmt: skip
            seen = terminal.read(process)
        assert "\x1b" not in seen
        assert "## w0 w1 w2 w3 w4." in seen
        assert ">> w0" in seen

    def test_words_cannot_steer_the_terminal(
        self, environment: dict[str, str], five_seconds: Path
    ) -> None:
        for extra in ([], ["--plain"]):
            terminal = Terminal()
            with started(
                environment, str(five_seconds), "-b", "esc-test", *extra,
                stdout=terminal.theirs,
            ) as process:  # fmt: skip
                seen = terminal.read(process)
            assert "\x1b[2J" not in seen
            assert "\N{REPLACEMENT CHARACTER}[2Jboo" in seen

    def test_a_bar_for_long_files(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        path = hum(tmp_path / "long.wav", 21.0)
        terminal = Terminal()
        with started(
            environment, str(path), "-b", "scripted-test", "--pace", "5",
            stderr=terminal.theirs, stdout=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            seen = terminal.read(process)
        assert process.returncode == 0
        assert "transcribing" in seen
        assert re.search(r"\d+ %", seen)


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
