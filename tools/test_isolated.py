"""Test each library with nothing installed but what it declares.

Builds one throw-away environment per case with the locked versions, so that an
undeclared import fails here and not at a user's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
TEST_TOOLS = ["pytest", "pytest-timeout", "hypothesis"]

CASES: list[tuple[str, str, list[str]]] = [
    # name, what to install, which tests must pass
    (
        "spreed-signaling",
        "packages/spreed-signaling",
        ["tests/spreed_signaling/protocol"],
    ),
    (
        "spreed-signaling[testing]",
        "packages/spreed-signaling[testing]",
        [
            "tests/spreed_signaling/test_client.py",
            "tests/spreed_signaling/test_client_shell.py",
            "-k",
            "not real",
        ],
    ),
    (
        "spreed-signaling[media,testing]",
        "packages/spreed-signaling[media,testing]",
        ["tests/spreed_signaling/media", "-k", "not real"],
    ),
    ("kyutai-stream", "packages/kyutai-stream", ["tests/kyutai_stream/core"]),
    (
        "kyutai-stream[testing]",
        "packages/kyutai-stream[testing]",
        ["tests/kyutai_stream/wire", "tests/kyutai_stream/backends/test_fallback.py"],
    ),
]

HEAVY = ("torch", "pocketsphinx", "aiortc", "scipy", "av")
"""Nothing of this may come with the bare kyutai-stream."""


CHECK_LIGHT = """
from importlib.util import find_spec
came = [name for name in {heavy!r} if find_spec(name) is not None]
assert not came, f"the bare package pulls in {{came}}"
from kyutai_stream import available_backends
infos = {{info.name: info for info in available_backends()}}
assert infos["activity"].error is None
print("without extras:", {{n: i.error for n, i in infos.items() if i.error}})
"""


def run(*command: str | Path, **options: str) -> None:
    environment = os.environ | options
    subprocess.run([str(part) for part in command], check=True, env=environment)


def main() -> int:
    for name, package, tests in CASES:
        print(f"[isolated] {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            run(UV, "venv", "-q", "--python", sys.executable, folder)
            run(
                UV, "pip", "install", "-q", *TEST_TOOLS, "-e", ROOT / package,
                "--constraint", ROOT / "requirements" / "dev.txt",
                "--build-constraint", ROOT / "requirements" / "dev.txt",
                VIRTUAL_ENV=folder,
            )  # fmt: skip
            python = Path(folder) / "bin" / "python"
            if name == "kyutai-stream":
                run(python, "-c", CHECK_LIGHT.format(heavy=HEAVY))
            run(python, "-m", "pytest", "-q", "--rootdir", ROOT, *tests)
    return 0


if __name__ == "__main__":
    sys.exit(main())
