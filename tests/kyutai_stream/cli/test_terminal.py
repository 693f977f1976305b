"""`kyutai-stream transcribe` before somebody who watches it, and stops it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .running import COMMAND, hum, s16


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
