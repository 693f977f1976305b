# SPDX-License-Identifier: MIT
"""What the gateway costs: CPU and latency between client and model server.

Clients, gateway and model server are a process each, on loopback and in real time. In
one run the frames go straight to the server, through our gateway, through a proxy as
it is deployed today (`_gateway_naive.py`), and through one that can do nothing but
carry them (`_gateway_floor.py`): so little a proxy in Python can cost.

    python -m benchmarks.gateway --streams 32 --seconds 20
    python -m benchmarks.gateway --json

Figures:

- `cpu_us_per_audio_s`, `naive_cpu_us_per_audio_s`: CPU of the gateway's process for
  each stream and second of audio, µs; all threads, words and acknowledgements
  included.
- `cpu_ratio`: ours by the naive one's.
- `floor_cpu_us_per_audio_s`, `floor_ratio`: the same of the proxy without features.
- `added_latency_ms_p95`: from a frame's being sent by the client to its arrival at
  the server, 95th percentile, less the same for the direct way.
- `direct_ms_*`, `through_ms_*`, `naive_ms_*`: these delays themselves.
- `no_cpu_ms_per_s`: how long the gateway was ready but other programs had the CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from ._figures import Row, percentile, show

__all__ = ["delays", "main"]

ROOT = Path(__file__).parents[1]
HIGHEST_MS = 5.0
"""Accepted `added_latency_ms_p95`."""
HIGHEST_RATIO = 0.35
"""Accepted `cpu_ratio`."""
START_S = 20.0

Way = Literal["direct", "ours", "naive", "floor"]


@frozen(kw_only=True)
class Measured:
    """One way."""

    cpu_us: float
    """Of its process, for each stream and second of audio."""
    waited_s: float
    """Ready to run, but not running."""
    delays_ms: list[float] = field(repr=False)
    """Of each frame."""


@contextlib.contextmanager
def _process(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},  # noqa: TID251  # for a child
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    if process.stdout is None:
        raise AssertionError("it is a pipe")
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"a process ended early: {process.args!r}")
    return line


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_ready(port: int) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return
        time.sleep(0.05)
    raise RuntimeError("the gateway did not become ready")


@contextlib.contextmanager
def _gateway(
    way: Way, upstream: str, streams: int, profile: tuple[Path, int] | None
) -> Iterator[tuple[str, int]]:
    """Start what is in between; yields its address and process id."""
    port = _free_port()
    environment = {
        "KYUTAI_GATEWAY_PORT": str(port),
        "KYUTAI_GATEWAY_AUTH": "none",
        "KYUTAI_GATEWAY_ATTACH_URL": upstream,
        "KYUTAI_GATEWAY_SLOTS": str(streams + 2),
        "KYUTAI_GATEWAY_LOG_LEVEL": "warning",
        "KYUTAI_GATEWAY_DRAIN_S": "0",
    }
    command = ["kyutai_gateway"]
    if way in ("naive", "floor"):
        command = [f"benchmarks._gateway_{way}", upstream, str(port)]
    elif profile is not None:
        path, count = profile
        command = ["benchmarks._gateway_ours", str(path), str(count)]
    with _process(*command, environment=environment) as process:
        _wait_ready(port)
        yield f"ws://127.0.0.1:{port}/v1/stream", process.pid


def _cpu_and_wait_s(pid: int | None) -> tuple[float, float]:
    """CPU time and time ready without a CPU, of all threads, seconds.

    Source: `/proc/PID/task/TID/schedstat`, its first two fields, nanoseconds.
    """
    if pid is None:
        return 0.0, 0.0
    ran = waited = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        fields = path.read_text().split()
        ran += int(fields[0])
        waited += int(fields[1])
    return ran / 1e9, waited / 1e9


def _measure(
    way: Way, options: argparse.Namespace, profile: tuple[Path, int] | None = None
) -> Measured:
    streams, seconds = options.streams, options.seconds
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_process("benchmarks._gateway_upstream"))
        url, pid = _line(server), None
        if way != "direct":
            url, pid = stack.enter_context(_gateway(way, url, streams, profile))
        kind = "moshi" if way == "direct" else "audio"
        clients = stack.enter_context(
            _process(
                "benchmarks._gateway_clients",
                *(url, str(streams), str(options.warm_up), str(seconds), kind),
            )
        )
        _line(clients)
        before = _cpu_and_wait_s(pid)
        _line(clients)
        after = _cpu_and_wait_s(pid)
        sent = json.loads(_line(clients))
        if server.stdin is None:
            raise AssertionError("it is a pipe")
        server.stdin.close()
        arrived = json.loads(_line(server))
    return Measured(
        cpu_us=(after[0] - before[0]) / (streams * seconds) * 1e6,
        waited_s=after[1] - before[1],
        delays_ms=delays(sent, arrived),
    )


def delays(sent: Mapping[str, Any], arrived: Mapping[str, list[float]]) -> list[float]:
    """From each frame's being sent in the measured time to its arrival, ms.

    Args:
        sent: `since` and `until` (seconds), and by stream when frames were `sent`.
        arrived: By stream, when frames came, in the same order.

    Raises:
        RuntimeError: If a frame of the measured time has not come.
    """
    found = []
    for stream, times in sent["sent"].items():
        came = arrived.get(stream, [])
        for number, when in enumerate(times):
            if not sent["since"] <= when < sent["until"]:
                continue
            if number >= len(came):
                raise RuntimeError(f"frame {number} of stream {stream} did not come")
            found.append((came[number] - when) * 1e3)
    return found


def _figures(options: argparse.Namespace) -> tuple[Row, list[Row]]:
    """Measure all ways; the figures, and those of functions where wanted."""
    direct = _measure("direct", options)
    ours = _measure("ours", options)
    naive = _measure("naive", options)
    floor = _measure("floor", options)
    functions: list[Row] = []
    if options.profile:
        # Apart: a profiler costs, too.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "functions.json"
            _measure("ours", options, (path, options.profile))
            functions = json.loads(path.read_text())
    figures = {
        "streams": options.streams,
        "cpu_us_per_audio_s": ours.cpu_us,
        "naive_cpu_us_per_audio_s": naive.cpu_us,
        "cpu_ratio": ours.cpu_us / naive.cpu_us,
        "floor_cpu_us_per_audio_s": floor.cpu_us,
        "floor_ratio": floor.cpu_us / naive.cpu_us,
        "added_latency_ms_p95": percentile(ours.delays_ms, 95)
        - percentile(direct.delays_ms, 95),
        "naive_added_latency_ms_p95": percentile(naive.delays_ms, 95)
        - percentile(direct.delays_ms, 95),
        **_spread("direct", direct),
        **_spread("through", ours),
        **_spread("naive", naive),
        "frames": len(ours.delays_ms),
        "no_cpu_ms_per_s": ours.waited_s / options.seconds * 1e3,
        "load": round(os.getloadavg()[0], 2),
    }
    return figures, functions


def _spread(name: str, way: Measured) -> dict[str, float]:
    return {f"{name}_ms_p{p}": percentile(way.delays_ms, p) for p in (50, 95)}


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway",
        description="CPU and latency of the gateway, beside those of a naive proxy.",
    )
    parser.add_argument("--streams", type=int, default=32, help="at once")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="measured, each way"
    )
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before")
    parser.add_argument(
        "--profile", type=int, default=0, metavar="N", help="name N dear functions"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns 1 if a limit is missed."""
    options = _parse(arguments)
    figures, functions = _figures(options)
    if options.json:
        whole = {**figures, **({"functions": functions} if functions else {})}
        print(json.dumps(whole, indent=2))
    else:
        show([figures], as_json=False)
        if functions:
            print("\n   own %  with callees %")
        for row in functions:
            function, own, called = row.values()
            print(f"{own:8.1f}  {called:14.1f}  {function}")
    return _judge(figures)


def _judge(figures: Row) -> int:
    kept = True
    limits = {"added_latency_ms_p95": HIGHEST_MS, "cpu_ratio": HIGHEST_RATIO}
    for name, limit in limits.items():
        value = float(str(figures[name]))
        kept = kept and value <= limit
        said = "kept" if value <= limit else "MISSED"
        print(f"limit of {limit:g} {said}: {name} is {value:.2f}", file=sys.stderr)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
