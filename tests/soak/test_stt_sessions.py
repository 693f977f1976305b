"""The soak in short: the long one is `make soak`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from benchmarks._soak_people import Person

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_a_minute_with_accidents_loses_nothing_and_leaves_nothing() -> None:
    command = [sys.executable, "-m", "benchmarks.soak_stt", "--json"]
    command += ["--sessions", "8", "--minutes", "1", "--round", "25"]
    command += ["--accidents", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, summary = json.loads(done.stdout)
    assert summary["words_said"] > 500
    assert summary["words_right"] == summary["words_said"]
    assert summary["reconnects"] > 5
    for key in ("gaps", "late_flushes", "tasks_left", "descriptors_left"):
        assert summary[key] == 0, key


def person() -> Person:
    from benchmarks._soak_people import Person, Score

    from kyutai_stream.testing import ScriptedBackend

    return Person(0, ScriptedBackend(), Score())


def test_the_soak_notices_lost_doubled_strange_and_misplaced_words() -> None:
    someone = person()
    someone.expect("alpha", 1.0)
    someone.expect("bravo", 2.0)
    someone.expect("charlie", 3.0)
    someone.expect("delta", 4.0)
    someone.hear("alpha", 1.08)
    assert someone.score.right == 1
    assert not someone.score.wrong
    someone.hear("alpha", 1.08)
    assert "came twice" in someone.score.wrong[-1]
    someone.hear("zulu", 1.5)
    assert "never said" in someone.score.wrong[-1]
    someone.hear("charlie", 3.0)
    assert "'bravo' at 2.00 did not" in someone.score.wrong[-1]
    assert someone.score.right == 2
    someone.hear("delta", 9.0)
    assert "spoken at 4.00" in someone.score.wrong[-1]
    assert someone.score.right == 2


def test_the_soak_notices_growth_and_leaks() -> None:
    from benchmarks._soak import wrong_in
    from benchmarks._soak_people import Score

    good: dict[str, object] = {
        "gaps": 0,
        "late_flushes": 0,
        "tasks_left": 0,
        "descriptors_left": 0,
        "threads_left": 0,
        "rss_growth_percent": 15.0,
        "rss_late_growth_percent": 1.0,
        "objects_growth_percent": -2.0,
    }
    assert wrong_in(good, Score(said=5, right=5)) == []
    assert wrong_in(good, Score(said=5, right=4))
    for key, value in (
        ("gaps", 1),
        ("late_flushes", 1),
        ("tasks_left", 1),
        ("descriptors_left", 2),
        ("threads_left", 2),
        ("rss_growth_percent", 26.0),
        ("rss_late_growth_percent", 6.0),
        ("objects_growth_percent", 4.0),
    ):
        assert wrong_in({**good, key: value}, Score()), key
