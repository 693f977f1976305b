"""How the program is run, on recordings that hum, and what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typer.testing import Result

COMMAND = (sys.executable, "-m", "kyutai_stream.cli")

TEN_WORDS = "w0 w1 w2 w3 w4. w5 w6 w7 w8 w9."


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


def assert_one_line(done: subprocess.CompletedProcess[str] | Result, code: int) -> str:
    found = done.exit_code if isinstance(done, Result) else done.returncode
    assert found == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("kyutai-stream: ")
    return line
