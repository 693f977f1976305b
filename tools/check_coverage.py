"""Require full branch coverage of the pure parts, from their own tests.

Only these run under coverage: tests with real media and real servers are about
time, and tracing would slow them down.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

PURE = [
    "packages/spreed-signaling/src/spreed_signaling/protocol/*",
    "packages/kyutai-stream/src/kyutai_stream/core/*",
    "packages/kyutai-stream/src/kyutai_stream/wire/*",
    "packages/kyutai-stream/src/kyutai_stream/transcript.py",
    "apps/live-transcription/src/live_transcription/captions.py",
    "apps/live-transcription/src/live_transcription/gate.py",
    "apps/live-transcription/src/live_transcription/lanes.py",
    "apps/live-transcription/src/live_transcription/notices.py",
    "apps/live-transcription/src/live_transcription/readers.py",
    "modal/src/kyutai_gateway/stream/audio.py",
    "modal/src/kyutai_gateway/stream/line.py",
    "modal/src/kyutai_gateway/stream/machine.py",
    "modal/src/kyutai_gateway/stream/messages.py",
    "modal/src/kyutai_gateway/stream/narrator.py",
    "modal/src/kyutai_gateway/stream/pauses.py",
    "modal/src/kyutai_gateway/stream/timers.py",
]
TESTS = [
    "tests/spreed_signaling/protocol",
    "tests/kyutai_stream/core",
    "tests/kyutai_stream/wire",
    "tests/kyutai_stream/test_transcript.py",
    "tests/live_transcription/test_captions.py",
    "tests/live_transcription/test_captions_floor.py",
    "tests/live_transcription/test_gate.py",
    "tests/live_transcription/test_notices.py",
    "tests/live_transcription/test_readers.py",
    "tests/kyutai_gateway/stream",
]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"COVERAGE_FILE": str(Path(folder) / "data")}
        coverage = [sys.executable, "-m", "coverage"]
        include = f"--include={','.join(PURE)}"
        report = ["--fail-under=100", "--show-missing", "--skip-covered"]
        for command in (
            [
                *coverage,
                "run",
                "--rcfile=",
                "--branch",
                include,
                "-m",
                "pytest",
                "-q",
                # The same examples each time: what is covered is no matter of luck.
                "--hypothesis-seed=0",
                *TESTS,
            ],
            [*coverage, "report", include, *report],
        ):
            status = subprocess.call(command, cwd=ROOT, env=environment)
            if status:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
