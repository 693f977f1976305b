"""The program as a process, with backends of its own installed beside ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kyutai_stream.cli._app import app

from .running import COMMAND, hum

PLUGINS = """
from kyutai_stream.backend import Capabilities
from kyutai_stream.errors import AuthError, CapacityError, ConnectFailed
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord

WORDS = tuple(
    ScriptedWord(text=f"w{n}" + "." * (n % 5 == 4), start=n / 2, end=n / 2 + 0.4)
    for n in range(200)
)


def scripted(*, url="", api_key=""):
    return ScriptedBackend(ConnectionScript(words=WORDS))


def esc():
    word = ScriptedWord(text="\\x1b[2Jboo", start=0.1, end=0.3)
    return ScriptedBackend(ConnectionScript(words=(word,)))


def locked(*, url="", api_key=""):
    return ScriptedBackend(ConnectionScript(refuse=AuthError("key refused (401)")))


def picky():
    return ScriptedBackend()


def mute():
    return ScriptedBackend(ConnectionScript(never_ready=True))
"""

NAMES = ("scripted", "esc", "locked", "picky", "mute")


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `PYTHONPATH` with an installed distribution of backends."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "cli_test_backends.py").write_text(PLUGINS)
    (folder / "cli_test_broken.py").write_text("raise RuntimeError('half built')\n")
    info = folder / "cli_test_backends-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: cli-test-backends\nVersion: 1.0\n")
    entries = [f"{name}-test = cli_test_backends:{name}" for name in NAMES]
    entries.append("broken-test = cli_test_broken:Backend")
    text = "\n".join(["[kyutai_stream.backends]", *entries, ""])
    (info / "entry_points.txt").write_text(text)
    return folder


@pytest.fixture(scope="session")
def environment(plugins: Path) -> dict[str, str]:
    """For processes: those backends, none of the caller's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - handed on to processes
        if not name.startswith(("KYUTAI_", "MODAL_"))
        and name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")
    }
    paths = [str(plugins), kept.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return kept | {"PYTHONPATH": path, "TERM": "xterm-256color"}


@pytest.fixture
def invoke(
    plugins: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Result]:
    """Run the program in this process, where a new one would prove no more."""
    monkeypatch.syspath_prepend(plugins)
    monkeypatch.chdir(tmp_path)
    for name in ("KYUTAI_STREAM_BACKEND", "KYUTAI_STREAM_URL", "MODAL_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
        return CliRunner().invoke(app, list(map(str, arguments)), env=env)

    return run


Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def program(environment: dict[str, str], tmp_path: Path) -> Program:
    """Run the program to its end."""

    def run(
        *arguments: str | Path, env: dict[str, str] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=environment | (env or {}),
            cwd=tmp_path,
            capture_output=True,
            timeout=50,
            check=False,
            **({"text": True} | more),
        )

    return run


@pytest.fixture
def five_seconds(tmp_path: Path) -> Path:
    return hum(tmp_path / "five.wav", 5.0)
