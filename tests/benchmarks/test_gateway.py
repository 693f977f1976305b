"""The benchmark of the gateway measures what it says; not how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(120)
def test_a_short_run_gives_every_figure() -> None:
    command = [sys.executable, "-m", "benchmarks.gateway", "--json"]
    command += ["--streams", "2", "--seconds", "1", "--warm-up", "0.4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    # 1 says that a limit was missed, as it may be on a busy machine.
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads(done.stdout)
    assert figures["streams"] == 2
    # 12.5 frames a second from each of two.
    assert 22 <= figures["frames"] <= 28
    ours, naive = figures["cpu_us_per_audio_s"], figures["naive_cpu_us_per_audio_s"]
    assert ours > 0 and naive > 0
    assert figures["cpu_ratio"] == pytest.approx(ours / naive)
    through, direct = figures["through_ms_p95"], figures["direct_ms_p95"]
    assert figures["added_latency_ms_p95"] == pytest.approx(through - direct)
    assert 0 < figures["through_ms_p50"] <= through


def test_a_frame_is_known_however_it_was_packed() -> None:
    from benchmarks._gateway_upstream import frame_of, stream_of

    from kyutai_stream.wire.moshi import encode_audio

    frame = frame_of(37, np.full(1920, 0.1, np.float32))
    naive = {"type": "Audio", "pcm": frame.tolist()}
    assert stream_of(encode_audio(frame)) == 37
    assert stream_of(msgpack.packb(naive)) == 37
    assert stream_of(msgpack.packb(naive, use_single_float=True)) == 37
    assert stream_of(encode_audio(np.zeros(1920, np.float32))) == 0
    assert stream_of(msgpack.packb({"type": "Marker", "id": 1})) is None


def test_delays_are_those_of_the_measured_time() -> None:
    from benchmarks.gateway import delays

    sent = {"since": 10.0, "until": 10.1, "sent": {"1": [9.99, 10.0, 10.08, 10.16]}}
    arrived = {"1": [9.991, 10.002, 10.083, 10.17], "0": [5.0]}
    assert delays(sent, arrived) == [pytest.approx(2.0), pytest.approx(3.0)]
    with pytest.raises(RuntimeError, match="frame 2 of stream 1"):
        delays(sent, {"1": [9.991, 10.002]})
