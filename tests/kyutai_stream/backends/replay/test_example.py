"""The example of the how-to works as shown."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import numpy.typing as npt

from kyutai_stream.backends.replay._transcript import parse

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


async def test_the_how_to() -> None:
    page = (ROOT / "docs" / "how-to" / "caption-by-hand.md").read_text()
    program, scripted = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program, "how-to", "exec", dont_inherit=True), names)
    desk = names["Desk"]()

    async def audio() -> AsyncIterator[npt.NDArray[np.float32]]:
        yield np.zeros(24_000, dtype=np.float32)
        desk.type("bob", "never asked for")
        desk.type("ann", "Good morning.")
        # Taken when the line before has been said.
        desk.type("ann", "")
        while desk._typed["ann"]:
            await anyio.lowlevel.checkpoint()
        yield np.zeros(24_000, dtype=np.float32)

    with anyio.fail_after(20):
        assert await names["caption"](desk, audio()) == ["Good morning."]
    assert "ReplayBackend(transcript=" in scripted
    (lines,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(parse(lines)) == 2
