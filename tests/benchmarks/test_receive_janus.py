"""The benchmark through the real Janus measures what it says; not how fast it is."""

from __future__ import annotations

import json

import pytest


@pytest.mark.real
@pytest.mark.timeout(180)
def test_a_short_run_gives_every_figure(
    real_available: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.receive_janus import main

    case = ["--speakers", "2", "--losses", "0.1", "--paths", "ours"]
    assert main(["--json", *case, "--seconds", "2", "--warm-up", "0.5"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["path"], row["speakers"], row["loss"]) == ("ours", 2, 0.1)
    assert row["cpu_us_per_audio_s"] > 0
    assert 0 < row["click_to_frame_ms_p50"] <= row["click_to_frame_ms_p95"]
    assert row["beyond_framing_ms_p50"] <= row["click_to_frame_ms_p50"]
    # Everything that arrived is used, and what was lost is concealed.
    assert row["delivered_share"] == pytest.approx(1.0, abs=0.02)
    assert row["concealed_ms_per_s"] > 20
    assert 0 < row["kb_per_speaker"] < 50_000
