# SPDX-License-Identifier: MIT
"""What it costs to receive speakers, and what arrives: our path and aiortc's own.

Publishers in this process send Opus (32 kbit/s, 20 ms, in-band FEC) over loopback and
SRTP to one process for each row, which receives, decodes and hands 24 kHz mono frames
of 80 ms to a consumer for each speaker. Packets are lost on purpose.

    python -m benchmarks.receive_path
    python -m benchmarks.receive_path --json --speakers 32 --losses 0

Paths: `ours`; `stock_soxr` (aiortc's jitter buffer and decoder, soxr in blocks of
80 ms); `stock_resample_poly` (the same with scipy's `resample_poly` for each 20 ms).
Without soxr, which is no dependency of ours, its rows hold no figures but say so in
`not_measured`.

Keys of the rows:

- `loss`, `burst`: share of packets lost, and how many in a row.
- `cpu_us_per_audio_s`: CPU of the whole process, all threads, for each speaker and
  second of audio (10 000 are one percent of a core).
- `click_to_frame_ms_*`: from sending a packet with a click until the frame with the
  click is in the consumer's hands.
- `beyond_framing_ms_*`: the same without waiting for the rest of the frame (nor for
  the look-ahead of the encoder, 6.5 ms).
- `delivered_share`: of the audio that was not lost, how much reached the consumer,
  concealed audio not counted.
- `concealed_ms_per_s`: lost audio that was recovered or guessed.
- `kb_per_speaker`: growth of the resident memory, with connection and decoder.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from attrs import frozen

from ._figures import Row, percentile, show
from ._receive_sender import (
    ENCODER_S,
    Loss,
    Publisher,
    encode_clicks,
    only_loopback,
    send_all,
)

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
PATHS = ("ours", "stock_soxr", "stock_resample_poly")
RATE = 24_000
PACKET_SAMPLES = 480


@frozen(kw_only=True)
class Case:
    """One row to be measured."""

    path: str
    speakers: int
    loss: Loss
    seconds: float
    warm_up_s: float
    profile: bool
    together: bool


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receive_path",
        description="CPU, latency, completeness and memory of receiving speakers.",
    )
    parser.add_argument("--speakers", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument(
        "--losses",
        nargs="+",
        default=["0", "0.01", "0.05", "0.1", "0.05x3"],
        help="shares; x3 behind one means three in a row. Those above 0 are measured "
        "with --lossy-speakers",
    )
    parser.add_argument("--lossy-speakers", type=int, default=8)
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=PATHS)
    parser.add_argument("--seconds", type=float, default=15.0, help="measured, a row")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before")
    parser.add_argument(
        "--together",
        action="store_true",
        help="the packets of all speakers at once instead of spread over 20 ms",
    )
    parser.add_argument("--profile", action="store_true", help="where the CPU goes")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    return parser.parse_args(arguments)


def _loss(text: str) -> Loss:
    share, _, burst = text.partition("x")
    return Loss(float(share), int(burst or 1))


def _cases(options: argparse.Namespace) -> Iterable[Case]:
    """The paths follow one another, so that a busy machine is busy for all."""
    for loss in map(_loss, options.losses):
        for speakers in [options.lossy_speakers] if loss.share else options.speakers:
            for path in options.paths:
                yield Case(
                    path=path,
                    speakers=speakers,
                    loss=loss,
                    seconds=options.seconds,
                    warm_up_s=options.warm_up,
                    profile=options.profile,
                    together=options.together,
                )


async def _measure(case: Case, payloads: list[bytes]) -> tuple[Row, list[Row]]:
    publishers = [await Publisher.open() for _ in range(case.speakers)]
    # Also what is sent while the figures are taken belongs to the latencies.
    count = round((case.warm_up_s + case.seconds) * 50)
    rng = random.Random(case.speakers)
    for publisher in publishers:
        publisher.lost = case.loss.pick(rng, count)
    command = [sys.executable, "-m", "benchmarks._receive_client", case.path]
    child = await anyio.open_process(command, cwd=ROOT, stderr=None)
    assert child.stdin is not None and child.stdout is not None, "both are pipes"
    lines = _lines(child.stdout)
    try:
        job = {
            "offers": [publisher.offer for publisher in publishers],
            "warm_up_s": case.warm_up_s,
            "seconds": case.seconds,
            "profile": case.profile,
        }
        await child.stdin.send(json.dumps(job).encode() + b"\n")
        answers = json.loads(await anext(lines))
        for publisher, answer in zip(publishers, answers, strict=True):
            await publisher.accept(answer)
        assert json.loads(await anext(lines)) == "ready"
        await send_all(publishers, payloads, count, together=case.together)
        await anyio.sleep(1)
        await child.stdin.send(b"done\n")
        figures = json.loads(await anext(lines))
    finally:
        child.kill()
        await child.wait()
        for publisher in publishers:
            await publisher.connection.close()
    return _row(case, publishers, figures), figures["profile"]


async def _lines(stream: Any) -> Any:
    """Yield the lines of a byte stream."""
    rest = b""
    async for block in stream:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line


def _row(case: Case, publishers: list[Publisher], figures: dict[str, Any]) -> Row:
    click_ms: list[float] = []
    beyond_ms: list[float] = []
    for publisher, clicks in zip(publishers, figures["clicks"], strict=True):
        for heard_at, following in clicks:
            sent = [at for at in publisher.click_times if at <= heard_at]
            if sent and heard_at - sent[-1] < 0.9:
                late_ms = (heard_at - sent[-1]) * 1000
                click_ms.append(late_ms)
                # What follows the packet with the click came later.
                own = PACKET_SAMPLES - ENCODER_S * RATE
                rest = max(0.0, following - own)
                beyond_ms.append(late_ms - rest / RATE * 1000)
    received_s = sum(publisher.sent for publisher in publishers) * 0.02
    concealed_s = sum(figures["concealed_ms"]) / 1000
    return {
        "path": case.path,
        "speakers": case.speakers,
        "loss": case.loss.share,
        "burst": case.loss.burst,
        "cpu_us_per_audio_s": figures["cpu_us_per_audio_s"],
        "click_to_frame_ms_p50": percentile(click_ms, 50),
        "click_to_frame_ms_p95": percentile(click_ms, 95),
        "beyond_framing_ms_p50": percentile(beyond_ms, 50),
        "beyond_framing_ms_p95": percentile(beyond_ms, 95),
        "delivered_share": (sum(figures["samples"]) / RATE - concealed_s) / received_s,
        "concealed_ms_per_s": concealed_s * 1000 / received_s,
        "kb_per_speaker": figures["kb_per_speaker"],
    }


def _why_not(path: str) -> str | None:
    """Why a path cannot be measured here."""
    if path == "stock_soxr" and importlib.util.find_spec("soxr") is None:
        return "soxr is not installed (pip install soxr)"
    return None


def _missing(case: Case, reason: str) -> Row:
    return {
        "path": case.path,
        "speakers": case.speakers,
        "loss": case.loss.share,
        "burst": case.loss.burst,
        "not_measured": reason,
    }


async def _run(options: argparse.Namespace) -> None:
    only_loopback()
    payloads = await anyio.to_thread.run_sync(encode_clicks)
    rows: list[Row] = []
    profiles: list[Row] = []
    for case in _cases(options):
        if (reason := _why_not(case.path)) is not None:
            rows.append(_missing(case, reason))
            continue
        row, profile = await _measure(case, payloads)
        rows.append(row)
        profiles += [{"path": case.path, **one} for one in profile]
        print(f"{len(rows)}: {case.path}, {case.speakers} speakers", file=sys.stderr)
    show(rows, as_json=options.json)
    if profiles:
        show(profiles, as_json=options.json)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parse(arguments)
    for path in options.paths:
        if (reason := _why_not(path)) is not None:
            print(f"{path} is not measured: {reason}", file=sys.stderr)
    anyio.run(_run, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
