"""`kyutai-stream backends`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from typer.testing import Result

Program = Callable[..., "subprocess.CompletedProcess[str]"]
Invoke = Callable[..., Result]


def test_the_table(program: Program) -> None:
    done = program("backends")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "recognises nothing" in rows["activity"]
    assert "endpoints, acks" in rows["activity"]
    assert "SCRIPTED" in rows["scripted-test"]
    assert "cli-test-backends" in rows["scripted-test"]


def test_a_broken_plugin_is_a_row_like_the_others(invoke: Invoke) -> None:
    done = invoke("backends", "--json")
    assert done.exit_code == 0
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert "half built" in found["broken-test"]["error"]
    assert found["broken-test"]["capabilities"] is None
    assert found["scripted-test"]["error"] is None
    assert found["scripted-test"]["capabilities"]["acks"] is True
    assert found["activity"]["capabilities"]["transcribes"] is False


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['typer'] = None\n"
        "from kyutai_stream.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "kyutai-stream: typer is not installed: pip install 'kyutai-stream[cli]'\n"
    )
