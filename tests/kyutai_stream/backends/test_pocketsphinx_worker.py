"""The worker as a program: its pipe protocol and its ends."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("pocketsphinx")

from kyutai_stream.audio import Resampler
from kyutai_stream.backends.pocketsphinx import worker as program


class _Decoder:
    """Hears one word in every audio."""

    def __init__(self) -> None:
        self.heard = 0

    def start_utt(self) -> None:
        self.heard = 0

    def process_raw(self, audio: bytes, search: bool, full: bool) -> None:
        self.heard += 1

    def end_utt(self) -> None:
        pass

    def seg(self) -> list[Any]:
        parts = [("<s>", 0, 4), ("two(2)", 5, 20), ("[SPEECH]", 21, 22)]
        kind = type("Part", (), {})
        found = []
        for word, start, end in parts[: 3 if self.heard else 0]:
            part = kind()
            part.word, part.start_frame, part.end_frame = word, start, end
            found.append(part)
        return found


def message(kind: bytes, payload: bytes = b"") -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload


def answers(raw: bytes, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    read, write = os.pipe()
    os.write(write, raw)
    os.close(write)
    try:
        program.serve(_Decoder(), program.Input(read))
    finally:
        os.close(read)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_words_without_fillers_and_variants(capsys: pytest.CaptureFixture[str]) -> None:
    raw = message(b"B") + message(b"A", bytes(2560)) + message(b"E")
    said = answers(raw, capsys)
    assert said[0] == {"samples": 1280, "words": [["two", 0.05, 0.21]]}
    assert said[1] == {"final": [["two", 0.05, 0.21]]}


def test_an_utterance_begins_empty(capsys: pytest.CaptureFixture[str]) -> None:
    raw = message(b"B") + message(b"A", bytes(2)) + message(b"E")
    said = answers(raw + message(b"B") + message(b"E"), capsys)
    assert said[-1] == {"final": []}


@pytest.fixture
def running() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-P", program.__file__, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield process
        process.kill()


def test_it_decodes_and_ends_with_its_input(
    running: subprocess.Popen[bytes], meeting_16k: npt.NDArray[np.int16]
) -> None:
    assert running.stdout is not None and running.stdin is not None
    assert json.loads(running.stdout.readline()) == {"ready": True}
    speech = Resampler(16_000).push(meeting_16k[:64_000] * np.float32(1 / 32768))
    audio = (speech * 32767).astype("<i2").tobytes()
    running.stdin.write(message(b"B") + message(b"A", audio) + message(b"E"))
    running.stdin.flush()
    assert json.loads(running.stdout.readline())["samples"] == len(speech)
    final = json.loads(running.stdout.readline())["final"]
    assert "application" in [word for word, _, _ in final]
    running.stdin.close()
    assert running.wait(timeout=10) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a Linux safety net")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """Even if somebody else holds its input open."""
    read, write = os.pipe()
    out_read, out_write = os.pipe()
    parent = (
        "import os, subprocess, sys;"
        f"p = subprocess.Popen([sys.executable, '-P', {program.__file__!r},"
        f" str(os.getpid())], stdin={read}, stdout={out_write});"
        "print(p.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(read, out_write),
    ) as process:
        os.close(read)
        os.close(out_write)
        with os.fdopen(out_read, "rb") as out:
            assert json.loads(out.readline()) == {"ready": True}
            process.kill()
            process.wait()
            # The pipe ends when its last writer, the worker, is gone.
            assert out.read() == b""
    os.close(write)
