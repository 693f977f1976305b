"""The soak of the receive path in short: the long one is `benchmarks.soak_receive`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_a_few_seconds_of_a_call_leave_nothing() -> None:
    command = [sys.executable, "-m", "benchmarks.soak_receive", "--json"]
    command += ["--speakers", "4", "--minutes", "0.05"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *looks, summary = json.loads(done.stdout)
    assert len(looks) == 21
    assert summary["speakers"] == 4 and summary["packets"] > 100
    for key in ("tasks_left", "descriptors_left", "dropped_s", "errors"):
        assert summary[key] == 0, key


def test_the_soak_notices_growth_and_missing_audio() -> None:
    from benchmarks.soak_receive import wrong_in

    good: dict[str, object] = {
        "rss_farthest_kb": 1_900,
        "tasks_growth": 0,
        "threads_growth": 0,
        "descriptors_growth": -1,
        "tasks_left": 0,
        "threads_left": 1,
        "descriptors_left": 0,
        "dropped_s": 0.0,
        "errors": 0,
        "sent": 1_000,
        "packets": 1_000,
        "received_s": 20.0,
    }
    assert wrong_in(good) == []
    for key, value in (
        ("rss_farthest_kb", 2_100),
        ("tasks_growth", 1),
        ("threads_growth", 1),
        ("descriptors_growth", 1),
        ("tasks_left", 1),
        ("threads_left", 2),
        ("descriptors_left", 1),
        ("dropped_s", 0.1),
        ("errors", 1),
        ("packets", 980),
        ("received_s", 19.0),
    ):
        assert wrong_in({**good, key: value}), key
