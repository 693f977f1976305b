"""The import contracts of pyproject.toml hold, and can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT = Path(sys.executable).with_name("lint-imports")

pytestmark = pytest.mark.skipif(not LINT.exists(), reason="import-linter is missing")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_all_contracts_are_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("spreed_signaling/protocol/session.py", "import asyncio", "does no I/O"),
        ("spreed_signaling/client/_client.py", "import aiortc", "needs no aiortc"),
        ("spreed_signaling/types.py", "import kyutai_stream", "do not know each"),
        ("kyutai_stream/core/framing.py", "import time", "reads no clock"),
        ("spreed_signaling/media/rtp/reorder.py", "import time", "The RTP core"),
        ("kyutai_stream/errors.py", "from .session import Session", "top to bottom"),
    ],
)
def test_a_forbidden_import_is_caught(
    file: str, line: str, contract: str, tmp_path: Path
) -> None:
    # The packages come first on the path from a copy, so that nothing here changes.
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    sources = {
        "spreed_signaling": "packages/spreed-signaling/src",
        "kyutai_stream": "packages/kyutai-stream/src",
        "live_transcription": "apps/live-transcription/src",
        "kyutai_gateway": "modal/src",
    }
    ignore = shutil.ignore_patterns("__pycache__", "clips", "page")
    for name, source in sources.items():
        shutil.copytree(ROOT / source / name, tmp_path / name, ignore=ignore)
    broken = tmp_path / file
    broken.write_text(broken.read_text() + f"\n{line}\n")
    done = subprocess.run(
        [LINT, "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    broken_lines = [row for row in done.stdout.splitlines() if " BROKEN" in row]
    assert any(contract in row for row in broken_lines), done.stdout
