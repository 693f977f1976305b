"""Run all tests, the way `make test` and CI do.

Most tests wait more than they work, so parts of the suite run side by side, each in
a pytest process of its own. A test that fails is run once more, alone in a fresh
process: a busy machine fails it once, a defect twice. A test that passes only then
is named at the end and in `artifacts/flaky-tests.txt`, and is to be mended. A part that
does not end (a test that hangs and cannot be cancelled) is killed and counts as broken
off.

In CI a missing real server or browser is a failure, not a skip. The tests that need
a server built with cargo, or torch, have commands of their own (`make test-moshi`,
`make test-local`). Arguments go to pytest, which then runs as one process; with
`-m MARKER` other tests are chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
OPTIONS = ["-o", "timeout=120"]
"""Side by side on a busy machine a test may take longer than alone."""

USUAL = "not moshi and not local"

LONGEST_FIRST = [
    "tests/end_to_end",
    "tests/kyutai_stream/session",
    "tests/live_transcription",
    "tests/kyutai_gateway",
    "tests/spreed_signaling/testing",
    "tests/kyutai_gateway/server",
    "tests/kyutai_stream/testing",
    "tests/kyutai_stream/cli",
]
"""Parts that would keep us waiting if they began last."""

LONGEST_S = 900.0
"""A part takes five minutes; what takes longer than this hangs."""

MOST_RERUN = 5
"""If more tests fail than this, the machine is not to blame."""

PASSED, FAILED, INTERRUPTED, NOTHING_TO_RUN = 0, 1, 2, 5
"""How pytest ends; a file that cannot be read interrupts it."""


@dataclass
class Outcome:
    """How a process of pytest ended."""

    name: str
    arguments: list[str]
    status: int
    output: str
    seconds: float
    failed: list[str]
    """Node ids of the tests that failed, were it in their set-up or after them."""

    @property
    def clear(self) -> bool:
        """Whether it came to its end, and every failure is that of a named test."""
        if self.status == FAILED:
            return bool(self.failed)
        return self.status in (PASSED, NOTHING_TO_RUN)


def parts(root: Path) -> dict[str, list[str]]:
    """Every test file, by the folder it is in, or the one two levels down."""
    made: dict[str, list[str]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        file = path.relative_to(root)
        name = "/".join(file.parent.parts[:3])
        made.setdefault(name, []).append(str(file))
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    names = sorted(made, key=lambda name: order.get(name, len(order)))
    return {name: made[name] for name in names}


def pytest(
    root: Path, name: str, arguments: list[str], *, live: bool = False
) -> Outcome:
    """Run pytest and keep what it prints, or let it print."""
    with tempfile.TemporaryDirectory() as cache:
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}"]
        with subprocess.Popen(
            [*command, *arguments],
            cwd=root,
            stdout=None if live else subprocess.PIPE,
            stderr=None if live else subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            output = bounded(process, None if live else LONGEST_S)
        seconds = time.monotonic() - began
        known = Path(cache) / "v" / "cache" / "lastfailed"
        failed = list(json.loads(known.read_text())) if known.exists() else []
    return Outcome(name, arguments, process.returncode, output, seconds, failed)


def bounded(process: subprocess.Popen[str], limit_s: float | None) -> str:
    """Wait for the end and return what was printed; kill what does not end."""
    for _ in range(2):
        try:
            output = process.communicate(timeout=limit_s)[0] or ""
        except subprocess.TimeoutExpired:
            # Servers that it has started end with it; should one not, what was
            # printed is not worth waiting for.
            process.kill()
            limit_s = 10.0
        else:
            killed = process.returncode == -signal.SIGKILL
            return output + "\nkilled: it did not come to its end\n" * killed
    return "killed: it did not come to its end, nor did what it had started\n"


def passes_alone(root: Path, test: str, options: list[str]) -> bool:
    """Run one test in a fresh process; it must really run."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = pytest(root, test, [*options, f"--junitxml={report}", test])
        print(done.output, flush=True)
        if done.status != PASSED:
            return False
        suites = ElementTree.parse(report).iter("testsuite")
        return all(s.get("tests") == "1" and s.get("skipped") == "0" for s in suites)


def run_side_by_side(root: Path, options: list[str], jobs: int) -> list[Outcome]:
    """Run all parts, so many at a time, and tell how each went."""
    todo = parts(root)
    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        running = [
            pool.submit(pytest, root, name, ["-q", *options, *files])
            for name, files in todo.items()
        ]
        for number, future in enumerate(as_completed(running), 1):
            outcome = future.result()
            outcomes.append(outcome)
            print(
                f"[{number}/{len(running)}] {outcome.name} ({outcome.seconds:.0f} s)",
                f"\n{brief(outcome)}",
                flush=True,
            )
    return outcomes


def brief(outcome: Outcome) -> str:
    """What is worth reading: all of it only if something is wrong."""
    if outcome.status != PASSED:
        return outcome.output
    lines = outcome.output.splitlines()
    return "\n".join(line for line in lines if not line.endswith("%]"))


def judge(root: Path, outcomes: list[Outcome], options: list[str]) -> int:
    """Give those that failed a second chance where that can mean something.

    Returns:
        The status to exit with.
    """
    tests = [test for outcome in outcomes for test in outcome.failed]
    unclear = [outcome for outcome in outcomes if not outcome.clear]
    failed = tests + [f"{outcome.name}: no clean end" for outcome in unclear]
    if all(outcome.status == NOTHING_TO_RUN for outcome in outcomes):
        return NOTHING_TO_RUN
    hopeless = len(unclear) > 1 or INTERRUPTED in {one.status for one in unclear}
    if not hopeless and len(tests) <= MOST_RERUN:
        print("".join(f"running once more, alone: {one}\n" for one in failed), end="")
        flaky = [test for test in tests if passes_alone(root, test, options)]
        flaky += [name for name in failed[len(tests) :] if ends_well(root, *unclear)]
        tell(root, flaky)
        failed = [one for one in failed if one not in flaky]
    print("".join(f"FAILED {one}\n" for one in failed), end="", flush=True)
    return FAILED if failed else PASSED


def ends_well(root: Path, outcome: Outcome) -> bool:
    """Run a part again that broke off, or left something behind (a socket, say)."""
    done = pytest(root, outcome.name, outcome.arguments)
    print(brief(done), flush=True)
    return done.status == PASSED


def tell(root: Path, flaky: list[str]) -> None:
    """Say aloud which tests cannot be relied on, and write it down."""
    if not flaky:
        return
    file = root / "artifacts" / "flaky-tests.txt"
    file.parent.mkdir(exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with file.open("a") as lines:
        for test in flaky:
            print(f"!!! passed when run again alone: FLAKY {test}")
            lines.write(f"{now} {test}\n")
    print(f"!!! {len(flaky)} flaky, to be mended; noted in {file}")


def run(root: Path, options: list[str], arguments: list[str], jobs: int) -> int:
    """Run the tests below a folder.

    Args:
        root: Where `tests` is.
        options: For every run of pytest.
        arguments: Which tests, if not all.
        jobs: How many processes at a time.

    Returns:
        The status to exit with.
    """
    began = time.monotonic()
    if arguments:
        outcomes = [pytest(root, "pytest", [*options, *arguments], live=True)]
    else:
        outcomes = run_side_by_side(root, options, jobs)
    status = judge(root, outcomes, options)
    word = {PASSED: "passed", FAILED: "FAILED"}.get(status, "nothing to run")
    print(f"{word} in {time.monotonic() - began:.0f} s")
    return status


def main() -> int:
    """Run all, or what the arguments say."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-m", dest="marker", default=USUAL)
    # The rest is pytest's.
    chosen, arguments = parser.parse_known_args()
    options = [*OPTIONS, "-m", chosen.marker]
    if os.environ.get("CI"):
        options.append("--require-real")
    jobs = int(os.environ.get("TEST_JOBS", 0)) or max(2, os.cpu_count() or 2)
    return run(ROOT, options, arguments, jobs)


if __name__ == "__main__":
    sys.exit(main())
