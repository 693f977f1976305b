# SPDX-License-Identifier: MIT
"""The receive path's figures once more, with the real signaling server and Janus.

As `benchmarks.receive_path`, but the publishers are members of a call, their packets
go through Janus, and the receiving process is a bot that subscribes to them. Packets
are lost in that process, in front of its receiver: the same ones on every path.

    python -m benchmarks.receive_janus
    python -m benchmarks.receive_janus --json --speakers 8 --losses 0 0.05

The keys of the rows are those of `benchmarks.receive_path`. CPU is of the bot's
process, signaling included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import ByteReceiveStream, Process
from attrs import frozen

from ._figures import Row, percentile, show
from ._receive_janus import PATHS, EncodedTrack, leave_out_missing, open_call
from ._receive_sender import CLICK_EVERY, ENCODER_S, encode_clicks

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
RATE = 24_000
PACKET_SAMPLES = 480
PACKET_S = 0.02
STOP_S = 5.0


@frozen(kw_only=True)
class Case:
    """One row to be measured."""

    path: str
    speakers: int
    loss: float
    seconds: float
    warm_up_s: float


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receive_janus",
        description="CPU, latency and completeness of receiving through Janus.",
    )
    parser.add_argument("--speakers", type=int, nargs="+", default=[8])
    parser.add_argument("--losses", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=PATHS)
    parser.add_argument("--seconds", type=float, default=15.0, help="measured, a row")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    return parser.parse_args(arguments)


def _cases(options: argparse.Namespace) -> Iterable[Case]:
    """The paths follow one another, so that a busy machine is busy for all."""
    for speakers in options.speakers:
        for loss in options.losses:
            for path in options.paths:
                yield Case(
                    path=path,
                    speakers=speakers,
                    loss=loss,
                    seconds=options.seconds,
                    warm_up_s=options.warm_up,
                )


async def _measure(case: Case, payloads: list[bytes]) -> Row:
    # Also what is sent while the figures are taken belongs to the latencies.
    count = round((case.warm_up_s + case.seconds) / PACKET_S)
    tracks = {
        f"Talker {number}": EncodedTrack(payloads, count)
        for number in range(case.speakers)
    }
    async with open_call(tracks) as janus, _client(case.path) as child:
        assert child.stdin is not None and child.stdout is not None, "both are pipes"
        lines = _lines(child.stdout)
        job = {
            "url": janus.url,
            "backend_url": janus.backend_url,
            "secret": janus.secret,
            "host_address": janus.host_address,
            "talkers": janus.talkers,
            "loss": case.loss,
            "warm_up_s": case.warm_up_s,
            "seconds": case.seconds,
        }
        await child.stdin.send(json.dumps(job).encode() + b"\n")
        assert await anext(lines) == "ready"
        for number, track in enumerate(tracks.values()):
            track.begin(number / case.speakers * PACKET_S)
        for track in tracks.values():
            await track.finished.wait()
        await anyio.sleep(1)
        await child.stdin.send(b"done\n")
        return _row(case, tracks, await anext(lines))


@asynccontextmanager
async def _client(path: str) -> AsyncGenerator[Process, None]:
    command = [sys.executable, "-m", "benchmarks._receive_janus_client", path]
    child = await anyio.open_process(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None
    )
    try:
        yield child
    finally:
        with anyio.move_on_after(STOP_S, shield=True):
            if child.returncode is None:
                child.kill()
            await child.aclose()


async def _lines(stream: ByteReceiveStream) -> AsyncIterator[Any]:
    """Yield what the lines of a byte stream say."""
    rest = b""
    async for block in stream:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield json.loads(line)


def _row(case: Case, tracks: dict[str, EncodedTrack], figures: dict[str, Any]) -> Row:
    click_ms: list[float] = []
    beyond_ms: list[float] = []
    for name, clicks in zip(figures["names"], figures["clicks"], strict=True):
        sent_at = tracks[name].sent_at[::CLICK_EVERY]
        for heard_at, following in clicks:
            sent = [at for at in sent_at if at <= heard_at]
            if sent and heard_at - sent[-1] < 0.9:
                late_ms = (heard_at - sent[-1]) * 1000
                click_ms.append(late_ms)
                # What follows the packet with the click came later.
                rest = following - (PACKET_SAMPLES - ENCODER_S * RATE)
                beyond_ms.append(late_ms - max(0.0, rest) / RATE * 1000)
    arrived_s = sum(figures["arrived"]) * PACKET_S
    concealed_s = sum(figures["concealed_ms"]) / 1000
    return {
        "path": case.path,
        "speakers": case.speakers,
        "loss": case.loss,
        "burst": 1,
        "cpu_us_per_audio_s": figures["cpu_us_per_audio_s"],
        "click_to_frame_ms_p50": percentile(click_ms, 50),
        "click_to_frame_ms_p95": percentile(click_ms, 95),
        "beyond_framing_ms_p50": percentile(beyond_ms, 50),
        "beyond_framing_ms_p95": percentile(beyond_ms, 95),
        "delivered_share": (sum(figures["samples"]) / RATE - concealed_s) / arrived_s,
        "concealed_ms_per_s": concealed_s * 1000 / arrived_s,
        "kb_per_speaker": figures["kb_per_speaker"],
    }


async def _run(options: argparse.Namespace) -> None:
    payloads = await anyio.to_thread.run_sync(encode_clicks)
    rows: list[Row] = []
    for case in _cases(options):
        rows.append(await _measure(case, payloads))
        print(f"{len(rows)}: {case.path}, {case.speakers} speakers", file=sys.stderr)
    show(rows, as_json=options.json)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parse(arguments)
    leave_out_missing(options.paths)
    anyio.run(_run, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
