"""What the documents show works as shown."""

from __future__ import annotations

import re
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kyutai_stream.testing import check_backend

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "packages" / "kyutai-stream"
EXAMPLE = PACKAGE / "examples" / "transcribe_wav.py"


def python(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)


def run(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wav_program_with_the_default(
    meeting_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KYUTAI_STREAM_BACKEND", raising=False)
    out = run(EXAMPLE, meeting_path, cwd=tmp_path)
    assert "no speech recogniser configured" in out


@pytest.fixture
def sentence(meeting_16k: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """The first sentence, which is enough to see that a program works."""
    return meeting_16k[: 6 * 16_000]


def test_the_wav_program_with_a_recogniser(
    sentence: npt.NDArray[np.int16], tmp_path: Path
) -> None:
    pytest.importorskip("pocketsphinx")
    path = tmp_path / "sentence.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sentence.tobytes())
    out = run(EXAMPLE, path, "--backend", "pocketsphinx", cwd=tmp_path)
    assert "application" in out


def test_the_readme(sentence: npt.NDArray[np.int16], tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    (program,) = python(PACKAGE / "README.md")
    # The server it speaks to is not here; everything else is as shown.
    server = 'get_backend("moshi-server", url="ws://127.0.0.1:8080")'
    assert server in program
    program = program.replace(server, 'get_backend("pocketsphinx")')
    (tmp_path / "readme.py").write_text(program)
    (tmp_path / "speech.s16").write_bytes(sentence.tobytes())
    out = run("readme.py", cwd=tmp_path)
    assert "application" in out
    assert "..." in out


async def test_the_how_to_on_backends() -> None:
    backend, test = python(ROOT / "docs" / "how-to" / "add-an-stt-backend.md")
    names: dict[str, Any] = {}
    exec(compile(backend, "how-to", "exec", dont_inherit=True), names)
    names["five_seconds_of_speech"] = np.zeros(120_000, dtype=np.float32)
    await check_backend(
        names["EveryTwoSeconds"](), speech=names["five_seconds_of_speech"]
    )
    exec(compile(test, "how-to", "exec", dont_inherit=True), names)
    await names["test_it_keeps_to_the_contract"]()
