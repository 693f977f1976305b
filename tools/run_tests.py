"""Run all tests, the way `make test` and CI do.

In CI a missing real server or browser is a failure, not a skip. The tests that need
a server built with cargo, or torch, have commands of their own (`make test-moshi`,
`make test-local`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    command = [sys.executable, "-m", "pytest", "-m", "not moshi and not local"]
    command += sys.argv[1:]
    if os.environ.get("CI"):
        command.append("--require-real")
    return subprocess.call(command, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
