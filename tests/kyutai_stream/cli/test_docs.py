"""The pages on the program say what is so."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.main
from typer.testing import Result

from kyutai_stream.cli._app import app

ROOT = Path(__file__).parents[3]
TUTORIAL = ROOT / "docs" / "tutorials" / "transcribe-a-wav.md"
REFERENCE = ROOT / "docs" / "reference" / "kyutai-stream-cli.md"

Invoke = Callable[..., Result]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    lines = "".join(blocks(page, "sh")).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("kyutai-stream")]


@pytest.fixture
def meeting(meeting_path: Path, tmp_path: Path) -> Path:
    """The tutorial's recording, where its commands look for it."""
    for ending in (".wav", ".txt"):
        shutil.copy(meeting_path.with_suffix(ending), tmp_path)
    return tmp_path


def test_the_commands_of_the_tutorial(invoke: Invoke, meeting: Path) -> None:
    pytest.importorskip("pocketsphinx")
    seen = set()
    for arguments in commands(TUTORIAL):
        if "moshi-server" in arguments or arguments == ["fake-server"]:
            continue
        # The pace of speech has a test of its own.
        fast = ["0" if one == "1" else one for one in arguments]
        done = invoke(*fast)
        assert done.exit_code == 0, (arguments, done.output)
        seen.add(arguments[0])
    assert seen == {"transcribe", "fake-server", "bench"}
    assert "00:00:00,660 --> " in (meeting / "meeting.srt").read_text()
    assert (meeting / "tones.wav").stat().st_size > 44


@pytest.mark.parametrize("number", [0, 1])
def test_the_programs_of_the_tutorial(number: int, meeting: Path) -> None:
    pytest.importorskip("pocketsphinx")
    program = blocks(TUTORIAL, "python")[number]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=meeting,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "application will be ready" in done.stdout


def test_the_reference_has_every_option_and_no_other() -> None:
    group = typer.main.get_command(app)
    options = {"--help"}
    for command in (group, *group.commands.values()):  # type: ignore[attr-defined]  # a group
        options |= {
            name
            for parameter in command.params
            for name in parameter.opts
            if name.startswith("--")
        }
    page = REFERENCE.read_text()
    written = set(re.findall(r"`(--[a-z-]+)", page)) | set(
        re.findall(r"\s(--debug)", page)
    )
    assert options - written == {"--help"}
    assert written <= options


def test_the_reference_has_every_command() -> None:
    group = typer.main.get_command(app)
    page = REFERENCE.read_text()
    for name in group.commands:  # type: ignore[attr-defined]  # a group
        assert f"`{name}" in page
