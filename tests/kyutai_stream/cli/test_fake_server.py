"""`kyutai-stream fake-server`, and the other commands against it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import Result

pytest.importorskip("websockets")
pytest.importorskip("msgpack")

Invoke = Callable[..., Result]

TEXT = "alpha bravo charlie. delta echo."


@contextmanager
def served(environment: dict[str, str], *arguments: str) -> Iterator[str]:
    """A running fake-server; gives its address and ends it by Ctrl-C."""
    command = [sys.executable, "-m", "kyutai_stream.cli", "fake-server", *arguments]
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            assert "ws://127.0.0.1:" in first, first
            yield first.split()[-1]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
            assert process.returncode == 0
            assert errors == ""
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def tones(invoke: Invoke, tmp_path: Path) -> Path:
    path = tmp_path / "tones.wav"
    done = invoke("fake-server", "--tones", path, "--text", TEXT)
    assert done.exit_code == 0, done.output
    return path


def heard(out: str) -> str:
    records = [json.loads(line) for line in out.splitlines()]
    return " ".join(one["text"] for one in records if one.get("is_final"))


def test_tones_are_understood(
    environment: dict[str, str], tones: Path, invoke: Invoke
) -> None:
    with served(environment, "--speed", "0") as url:
        options = ("-b", "moshi-server", "--url", url)
        done = invoke("transcribe", tones, *options)
        assert done.exit_code == 0, done.output
        assert heard(done.stdout) == TEXT.replace(".", "")
        done = invoke("doctor", *options, "--json")
        assert done.exit_code == 0, done.output
        found = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
        assert {one["verdict"] for one in found.values()} == {"ok"}
        assert "0 of 8 taken" in found["free places"]["found"]
        done = invoke("doctor", *options, "--api-key", "hunter2")
        assert done.exit_code == 1
        assert "FAILED  key" in done.stdout
        assert "hunter2" not in done.output


def test_a_script_is_said_to_everybody(
    environment: dict[str, str], tones: Path, invoke: Invoke
) -> None:
    with served(environment, "--speed", "0", "--script", "Hello there.") as url:
        done = invoke("transcribe", tones, "-b", "moshi-server", "--url", url)
        assert heard(done.stdout) == "Hello there."


def test_nobody_there(invoke: Invoke, tones: Path) -> None:
    url = "ws://127.0.0.1:9"
    done = invoke("doctor", "-b", "moshi-server", "--url", url)
    assert done.exit_code == 1
    assert "FAILED  connects" in done.stdout
    assert "is the server running" in done.stdout


def test_wrong_usage(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("fake-server", "--model", "7b")
    assert done.exit_code == 2
    assert "--model is one of 1b, 2.6b, python" in done.stderr
    done = invoke("fake-server", "--tones", tmp_path / "x.wav", "--text", "hello")
    assert done.exit_code == 2
    assert "'hello' is no word" in done.stderr
    assert "alpha" in done.stderr
