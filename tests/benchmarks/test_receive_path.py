"""The benchmark of the receive path measures what it says; not how fast anything is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def rows_of(*arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.receive_path", "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.timeout(180)
def test_a_short_run_gives_every_figure() -> None:
    few = ["--speakers", "2", "--lossy-speakers", "2", "--losses", "0", "0.1x3"]
    paths = ["--paths", "ours", "stock_resample_poly"]
    rows = rows_of(*few, *paths, "--seconds", "2", "--warm-up", "1")
    assert [(row["path"], row["loss"], row["burst"]) for row in rows] == [
        ("ours", 0.0, 1),
        ("stock_resample_poly", 0.0, 1),
        ("ours", 0.1, 3),
        ("stock_resample_poly", 0.1, 3),
    ]
    for row in rows:
        assert row["speakers"] == 2
        assert row["cpu_us_per_audio_s"] > 0
        assert 0 < row["click_to_frame_ms_p50"] <= row["click_to_frame_ms_p95"]
        assert row["beyond_framing_ms_p50"] <= row["click_to_frame_ms_p50"]
        assert 0 < row["kb_per_speaker"] < 50_000
    ours, stock, lossy, lossy_stock = rows
    # Everything that was sent and not lost is used; aiortc keeps what it has begun.
    assert ours["delivered_share"] == pytest.approx(1.0, abs=0.005)
    assert lossy["delivered_share"] == pytest.approx(1.0, abs=0.01)
    assert lossy["concealed_ms_per_s"] > 20
    assert lossy_stock["delivered_share"] < lossy["delivered_share"]
    assert stock["beyond_framing_ms_p50"] > ours["beyond_framing_ms_p50"] + 30


def test_a_path_that_cannot_be_measured_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import receive_path

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(receive_path, "only_loopback", lambda: None)
    monkeypatch.setattr(receive_path, "encode_clicks", lambda: [])
    arguments = ["--json", "--paths", "stock_soxr", "--speakers", "2", "--losses", "0"]
    assert receive_path.main(arguments) == 0
    printed = capsys.readouterr()
    (row,) = json.loads(printed.out)
    assert row["path"] == "stock_soxr" and row["speakers"] == 2
    assert "soxr" in row["not_measured"] and "cpu_us_per_audio_s" not in row
    assert "not measured" in printed.err


def test_losses_are_as_announced() -> None:
    from benchmarks._receive_sender import Loss

    rng = random.Random(1)
    single = Loss(0.05).pick(rng, 20_000)
    assert len(single) == pytest.approx(1_000, rel=0.15)
    triple = Loss(0.05, 3).pick(rng, 20_000)
    assert len(triple) == pytest.approx(1_000, rel=0.2)
    starts = [number for number in triple if number - 1 not in triple]
    assert all({one, one + 1, one + 2} <= triple for one in starts)
    assert not Loss(0.0).pick(rng, 100)
