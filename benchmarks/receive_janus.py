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
import sys
from itertools import product

import anyio
import anyio.to_thread

from ._child import open_child
from ._figures import Row, show
from ._receive_case import Case, add_arguments, cases, row
from ._receive_janus import EncodedTrack, leave_out_missing, open_call
from ._receive_sender import CLICK_EVERY, PACKET_S, Loss, encode_clicks

__all__ = ["main"]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receive_janus",
        description="CPU, latency and completeness of receiving through Janus.",
    )
    parser.add_argument("--speakers", type=int, nargs="+", default=[8])
    parser.add_argument("--losses", type=float, nargs="+", default=[0.0, 0.05])
    add_arguments(parser)
    return parser.parse_args(arguments)


async def _measure(case: Case, payloads: list[bytes]) -> Row:
    tracks = {
        f"Talker {number}": EncodedTrack(payloads, case.packets)
        for number in range(case.speakers)
    }
    async with (
        open_call(tracks) as janus,
        open_child("_receive_janus_client", case.path) as child,
    ):
        job = {
            "url": janus.url,
            "backend_url": janus.backend_url,
            "secret": janus.secret,
            "host_address": janus.host_address,
            "talkers": janus.talkers,
            "loss": case.loss.share,
            "warm_up_s": case.warm_up_s,
            "seconds": case.seconds,
        }
        await child.tell(job)
        assert await child.hear() == "ready"
        for number, track in enumerate(tracks.values()):
            track.begin(number / case.speakers * PACKET_S)
        for track in tracks.values():
            await track.finished.wait()
        await anyio.sleep(1)
        await child.tell("done")
        figures = await child.hear()
    return row(
        case,
        figures,
        clicks_sent=[tracks[name].sent_at[::CLICK_EVERY] for name in figures["names"]],
        arrived_s=sum(figures["arrived"]) * PACKET_S,
    )


async def _run(options: argparse.Namespace) -> None:
    payloads = await anyio.to_thread.run_sync(encode_clicks)
    rows: list[Row] = []
    for case in cases(options, product(options.speakers, map(Loss, options.losses))):
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
