# SPDX-License-Identifier: MIT
"""Let many sessions run for long, with accidents, and see that nothing adds up.

People speak words of the tone vocabulary, mute, come back, lose their place while they
are silent; connections are cut, fall silent, and the server restarts now and then.
Every word has to come out once, in order, at its time, without a `Gap`. At the end of
each round all of them rest, and the process is looked at: memory, objects, tasks,
descriptors and threads must not grow after the first minutes.

    python -m benchmarks.soak_stt --sessions 50 --minutes 10
    python -m benchmarks.soak_stt --real --json

Without `--real` the time is virtual: the loop's clock jumps over every wait, the fake
server runs in the same process, and memory counts it, too.
"""

from __future__ import annotations

import argparse
import sys
import tracemalloc
from functools import partial

import anyio

from kyutai_stream.testing.virtual_time import VirtualTimeLoop, run_virtual

from ._figures import conclude
from ._soak import SoakJob, soak

__all__ = ["main"]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak_stt",
        description="Many sessions for a long time, with accidents.",
    )
    parser.add_argument("--sessions", type=int, default=50, help="at once")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--round", type=float, default=60.0, help="seconds to a rest")
    parser.add_argument(
        "--accidents", type=float, default=6.0, help="seconds from one to the next"
    )
    parser.add_argument("--real", action="store_true", help="real time")
    parser.add_argument("--trace", action="store_true", help="say what grew; slow")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Soak and print; returns 1 if something is wrong."""
    options = _parse(arguments)
    job = SoakJob(
        sessions=options.sessions,
        minutes=options.minutes,
        round_s=options.round,
        accident_every_s=options.accidents,
        real=options.real,
        trace=options.trace,
    )
    if job.real:
        rows, summary, wrong = anyio.run(soak, job)
    else:
        loop = partial(VirtualTimeLoop, horizon_s=None)
        rows, summary, wrong = run_virtual(soak, job, loop_factory=loop)
    if tracemalloc.is_tracing():
        _show_traced()
    return conclude(rows, summary, wrong, as_json=options.json)


def _show_traced() -> None:
    for line in tracemalloc.take_snapshot().statistics("lineno")[:15]:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
