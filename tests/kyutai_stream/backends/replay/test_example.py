"""The example of the how-to works as shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / "packages" / "kyutai-stream" / "examples" / "human_captioner.py"


def test_a_person_captions_a_file(meeting_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, meeting_path, "--pace", "20"],
        input="Good morning, everybody.\nLet us begin.\n",
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    finals = [line.split(maxsplit=1)[1] for line in lines if "  > " not in line]
    assert " ".join(finals) == "Good morning, everybody. Let us begin."
    assert any(line.strip() == "> Good" for line in lines)
