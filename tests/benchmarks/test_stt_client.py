"""The benchmark of the client measures what it says; not how fast anything is."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kyutai_stream.audio import Resampler

ROOT = Path(__file__).parents[2]
SCALE = 1 << 23


def rows_of(*arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.stt_client", "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    # 1 says that a limit was missed, as it may be on a busy machine.
    assert done.returncode in (0, 1), done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.timeout(120)
def test_a_short_run_gives_every_figure() -> None:
    few = ["--sessions", "2", "--seconds", "0.6", "--warm-up", "0.4"]
    rows = rows_of(*few, "--rates", "48000")
    live = [row for row in rows if "sessions" in row]
    assert [(row["source_rate"], row["encoding"]) for row in live] == [
        (48_000, "ours"),
        (48_000, "tolist-double"),
    ]
    for row in live:
        assert row["sessions"] == 2
        # 12.5 frames a second from each of two; a busy machine may be late.
        assert 3 <= row["frames"] <= 60
        assert row["words"] > 0
        assert row["reconnects"] == 0
        p50, p95 = row["frame_to_socket_ms_p50"], row["frame_to_socket_ms_p95"]
        assert 0.0 < p50 <= p95 <= row["frame_to_socket_ms_p99"]
        assert row["cpu_us_per_audio_s"] > row["encoding_us_per_audio_s"] > 0.0
        assert 10 < row["kb_per_session"] < 20_000
    encoders = {row["encoding"]: row for row in rows if "us_per_frame" in row}
    assert encoders["ours"]["bytes_per_frame"] == 9_619
    assert encoders["tolist-double"]["bytes_per_frame"] == 17_299
    # Measured 30 times faster; this holds on any machine.
    naive_us = encoders["tolist-single"]["us_per_frame"]
    assert encoders["ours"]["us_per_frame"] < naive_us / 2


@pytest.mark.parametrize("seconds", [3.0, 120.0])
def test_a_ramp_tells_its_place_after_resampling(seconds: float) -> None:
    from benchmarks._live import TOLERANCE
    from benchmarks._probe import ramp

    assert ramp(seconds, 24_000)[1919] * SCALE == 1919
    audio = ramp(seconds, 48_000)
    out = Resampler(48_000).push(audio)
    for end in range(1920, len(out), 1920):
        assert abs(float(out[end - 1]) * SCALE - (end - 1)) < TOLERANCE / 2


def test_a_delay_counts_from_the_packet_that_completes_the_frame() -> None:
    from benchmarks._live import RESAMPLER_SAMPLES, LiveJob, delays

    def job(rate: int) -> LiveJob:
        return LiveJob(
            url="", sessions=1, seconds=1.0, warm_up_s=0.0, source_rate=rate,
            encoding="ours", together=False,
        )  # fmt: skip

    pushed = [100.0 + 0.02 * n for n in range(10)]
    # Sample 1919 is the last one of packet 3, sent 1 ms after that was pushed.
    sent = [(1919, 100.061)]
    assert delays(sent, pushed, job(24_000), 0) == [pytest.approx(0.001)]
    # Resampled it is complete with packet 4, which came 19 ms later.
    sent = [(1919, 100.081)]
    assert delays(sent, pushed, job(48_000), RESAMPLER_SAMPLES) == [
        pytest.approx(0.001)
    ]
    assert delays(sent, pushed, job(48_000), 0) == [pytest.approx(0.021)]
    # Silence fed by the session stands for no packet.
    assert delays([(0, 100.5)], pushed, job(24_000), 0) == []


def test_percentiles() -> None:
    from benchmarks._figures import percentile

    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([3.0], 95) == 3.0
    assert math.isnan(percentile([], 50))


def test_the_probe_notes_positions_in_order() -> None:
    from benchmarks._probe import ramp

    frames = ramp(1.0, 24_000)[: 12 * 1920].reshape(12, 1920)
    ends = [round(float(frame[-1]) * SCALE) for frame in frames]
    assert ends == list(np.arange(1, 13) * 1920 - 1)
