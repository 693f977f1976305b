# SPDX-License-Identifier: MIT
"""What a client of Kyutai's speech-to-text costs: latency, CPU, memory.

Sessions live in one process and speak to a fake moshi-server in another one, over
loopback, in real time. Each is pushed packets of 20 ms, as WebRTC brings them. The
naive encoding (Python floats into MessagePack) runs in the same session code.

    python -m benchmarks.stt_client --sessions 50 --seconds 60
    python -m benchmarks.stt_client --json

Keys of the rows:

- `frame_to_socket_ms_*`: from the `try_push` that completed a frame to the return of
  the write to its socket. With resampling a frame is complete 1 ms after its last
  sample, which is one packet later: `source_to_socket_ms_p95` counts that, too.
- `cpu_us_per_audio_s`: CPU of the process for each session and second of audio; the
  benchmark's own timers (`harness_us_per_audio_s`) are taken off.
- `encoding_us_per_audio_s`: the part of it that is the encoding.
- `kb_per_session`: what Python and numpy hold for one speaking session (traced).
- `no_cpu_ms_per_s`: how long the process was ready but other programs had the CPU.
- `us_per_frame`: the encoder alone.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from ._encodings import Encoding, encoder_rows
from ._figures import Row, show
from ._live import LiveJob, measure
from ._stt_server import server_process

__all__ = ["main"]

LIMIT_MS = 5.0
"""Accepted 95th percentile of `frame_to_socket_ms`."""


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stt_client",
        description="Latency, CPU and memory of streaming sessions.",
    )
    parser.add_argument("--sessions", type=int, default=50, help="at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured, a row")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before")
    parser.add_argument(
        "--rates", type=int, nargs="+", default=[24_000, 48_000], metavar="HZ"
    )
    parser.add_argument(
        "--encodings",
        nargs="+",
        default=["ours", "tolist-double"],
        choices=["ours", "tolist-single", "tolist-double"],
    )
    parser.add_argument(
        "--together",
        action="store_true",
        help="all packets at the same moment (worst case) instead of spread out",
    )
    parser.add_argument(
        "--profile",
        type=int,
        default=0,
        metavar="N",
        help="name the N dearest functions",
    )
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    return parser.parse_args(arguments)


def _isolated(job: LiveJob) -> list[Row]:
    """Measure in a fresh process, so that rows do not change each other."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, job).result()


def _live_rows(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    encodings: list[Encoding] = options.encodings
    # Room for those that warmed up and may not have left yet.
    with server_process(options.sessions + 5) as url:
        for rate in options.rates:
            for encoding in encodings:
                job = LiveJob(
                    url=url,
                    sessions=options.sessions,
                    seconds=options.seconds,
                    warm_up_s=options.warm_up,
                    source_rate=rate,
                    encoding=encoding,
                    together=options.together,
                    profile=options.profile,
                )
                rows += _isolated(job)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns 1 if the latency is above its limit."""
    options = _parse(arguments)
    live = _live_rows(options)
    encoders = encoder_rows()
    if options.json:
        show([*live, *encoders], as_json=True)
    else:
        show([row for row in live if "sessions" in row], as_json=False)
        print()
        show(encoders, as_json=False)
        _show_functions([row for row in live if "function" in row])
    return _judge(live)


def _show_functions(rows: list[Row]) -> None:
    if rows:
        print("\n  own us  with callees, for each session and second of audio")
    for row in rows:
        function, own_us, all_us = row.values()
        print(f"{own_us:8.0f}  {all_us:12.0f}  {function}")


def _judge(live: list[Row]) -> int:
    ours = [row for row in live if row.get("encoding") == "ours"]
    worst = max((float(str(row["frame_to_socket_ms_p95"])) for row in ours), default=0)
    said = "kept" if worst <= LIMIT_MS else "MISSED"
    note = f"\nlimit of {LIMIT_MS:g} ms {said}: frame_to_socket_ms_p95 is {worst:.2f}"
    print(note, file=sys.stderr)
    return 0 if worst <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
