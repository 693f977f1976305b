"""`tools/run_tests.py`: every test runs, and only a second failure counts."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parent.parent

FIXTURE = """
from pathlib import Path
import pytest

@pytest.fixture
def second_time(tmp_path_factory):
    seen = Path(__file__).with_suffix(".seen")
    if seen.exists():
        return True
    seen.touch()
    return False
"""
UNSTEADY = f"""{FIXTURE}
@pytest.mark.parametrize("text", ["a b::c/[d]\\\\r"])
def test_in_itself(second_time, text):
    assert second_time
"""
IN_ITS_SETUP = """
import pytest

@pytest.fixture
def ready(second_time):
    assert second_time

def test_in_its_setup(ready):
    pass
"""
SKIPPED_THEN = """
import pytest

def test_skipped_then(second_time):
    if second_time:
        pytest.skip("not here")
    assert False
"""

Run = Callable[..., int]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = ROOT / "tools" / "run_tests.py"
    spec = importlib.util.spec_from_file_location("run_tests_under_test", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a suite of some files; its own settings apply, not ours."""
    # It starts sooner so.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def suite(*arguments: str, **files: str) -> int:
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        folder = tmp_path / "tests"
        folder.mkdir()
        for name, text in files.items():
            path = folder / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        status: int = tool.run(tmp_path, [], list(arguments), 2)
        return status

    return suite


def flaky(folder: Path) -> list[str]:
    file = folder / "artifacts" / "flaky-tests.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.split(" ", 1)[1] for line in lines]


def test_every_test_file_is_in_one_part(tool: ModuleType) -> None:
    files = [file for part in tool.parts(ROOT).values() for file in part]
    assert len(files) == len(set(files)) > 150
    assert {ROOT / file for file in files} == set((ROOT / "tests").rglob("test_*.py"))
    assert set(tool.LONGEST_FIRST) <= set(tool.parts(ROOT))


def test_good_ones(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = "def test_one(): pass"
    assert run(b__test_a=good, b__c__d__test_e=good, b__test_f="") == 0
    out = capsys.readouterr().out
    assert out.count("1 passed") == 2
    assert "[2/2]" in out
    assert flaky(tmp_path) == []


def test_what_fails_once_is_told(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(test_a=UNSTEADY, b__test_b=FIXTURE + IN_ITS_SETUP)
    out = capsys.readouterr().out
    assert status == 0, out
    names = [
        "tests/b/test_b.py::test_in_its_setup",
        "tests/test_a.py::test_in_itself",
    ]
    found = sorted(name.split("[")[0] for name in flaky(tmp_path))
    assert found == names
    assert "again alone: FLAKY tests/test_a.py::test_in_itself[a b::c/[d]" in out


def test_what_fails_twice_fails(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(test_a=UNSTEADY, test_b="def test_b(): assert False") == 1
    assert "FAILED tests/test_b.py::test_b\n" in capsys.readouterr().out
    assert len(flaky(tmp_path)) == 1


def test_a_skip_is_no_second_success(run: Run, tmp_path: Path) -> None:
    assert run("tests", test_a=FIXTURE + SKIPPED_THEN) == 1
    assert flaky(tmp_path) == []


def test_many_failures_are_believed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = UNSTEADY.replace('["a', '["1", "2", "3", "4", "5", "a')
    many = many.replace("seen.touch()", "").replace("True", "False")
    assert run(test_a=many) == 1
    assert "once more" not in capsys.readouterr().out
    assert flaky(tmp_path) == []


def test_a_part_that_broke_off_is_run_again(run: Run, tmp_path: Path) -> None:
    breaks_once = (
        FIXTURE + "def test_a(second_time): second_time or __import__('os')._exit(3)"
    )
    assert run("tests", test_a=breaks_once) == 0
    assert flaky(tmp_path) == ["pytest: no clean end"]


HANGS = "def test_a(second_time): second_time or __import__('time').sleep(600)"
STARTS_ANOTHER = """
def test_a(second_time):
    import subprocess, sys
    if not second_time:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(20)"])
"""


@pytest.mark.parametrize("source", [HANGS, STARTS_ANOTHER])
def test_a_part_that_hangs_is_killed_and_run_again(
    run: Run,
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
) -> None:
    monkeypatch.setattr(tool, "LONGEST_S", 6.0)
    assert run(test_a=FIXTURE + source) == 0
    assert "killed: it did not come to its end" in capsys.readouterr().out
    assert flaky(tmp_path) == ["tests: no clean end"]


@pytest.mark.parametrize("source", ["import os; os._exit(3)", "def test_a(:"])
def test_what_breaks_pytest_fails(run: Run, source: str) -> None:
    assert run(test_a=source) == 1


def test_nothing_to_run(run: Run) -> None:
    assert run(test_a="") == 5
