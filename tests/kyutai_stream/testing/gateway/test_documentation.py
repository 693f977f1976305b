"""What the how-to shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[4] / "docs/how-to/test-with-the-fake-servers.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Goes on from the block before, inside of a running gateway.
BLOCKS = [
    block
    for block in (BLOCK.findall(PAGE.read_text()) if PAGE.is_file() else [])
    if not block.startswith("gateway.")
]


@pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not here")
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_example(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(block, str(PAGE), "exec"), names)
    for name, value in list(names.items()):
        if name.startswith("test_") and callable(value):
            value()
