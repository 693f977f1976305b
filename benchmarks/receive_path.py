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
import random
import sys
from collections.abc import Iterable

import anyio
import anyio.to_thread

from ._child import open_child
from ._figures import Row, show
from ._receive_case import Case, add_arguments, cases, row, why_not
from ._receive_sender import (
    PACKET_S,
    Loss,
    Publisher,
    encode_clicks,
    only_loopback,
    send_all,
)

__all__ = ["main"]


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
    parser.add_argument(
        "--together",
        action="store_true",
        help="the packets of all speakers at once instead of spread over 20 ms",
    )
    parser.add_argument("--profile", action="store_true", help="where the CPU goes")
    add_arguments(parser)
    return parser.parse_args(arguments)


def _loss(text: str) -> Loss:
    share, _, burst = text.partition("x")
    return Loss(float(share), int(burst or 1))


def _loads(options: argparse.Namespace) -> Iterable[tuple[int, Loss]]:
    for loss in map(_loss, options.losses):
        for speakers in [options.lossy_speakers] if loss.share else options.speakers:
            yield speakers, loss


async def _measure(
    case: Case, payloads: list[bytes], options: argparse.Namespace
) -> tuple[Row, list[Row]]:
    publishers = [await Publisher.open() for _ in range(case.speakers)]
    rng = random.Random(case.speakers)
    for publisher in publishers:
        publisher.lost = case.loss.pick(rng, case.packets)
    job = {
        "offers": [publisher.offer for publisher in publishers],
        "warm_up_s": case.warm_up_s,
        "seconds": case.seconds,
        "profile": options.profile,
    }
    try:
        async with open_child("_receive_client", case.path) as child:
            await child.tell(job)
            answers = await child.hear()
            for publisher, answer in zip(publishers, answers, strict=True):
                await publisher.accept(answer)
            assert await child.hear() == "ready"
            await send_all(
                publishers, payloads, case.packets, together=options.together
            )
            await anyio.sleep(1)
            await child.tell("done")
            figures = await child.hear()
    finally:
        for publisher in publishers:
            await publisher.connection.close()
    measured = row(
        case,
        figures,
        clicks_sent=[publisher.click_times for publisher in publishers],
        arrived_s=sum(publisher.sent for publisher in publishers) * PACKET_S,
    )
    return measured, figures["profile"]


async def _run(options: argparse.Namespace) -> None:
    only_loopback()
    payloads = await anyio.to_thread.run_sync(encode_clicks)
    rows: list[Row] = []
    profiles: list[Row] = []
    for case in cases(options, _loads(options)):
        if (reason := why_not(case.path)) is not None:
            rows.append({**case.titles, "not_measured": reason})
            continue
        measured, profile = await _measure(case, payloads, options)
        rows.append(measured)
        profiles += [{"path": case.path, **one} for one in profile]
        print(f"{len(rows)}: {case.path}, {case.speakers} speakers", file=sys.stderr)
    show(rows, as_json=options.json)
    if profiles:
        show(profiles, as_json=options.json)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parse(arguments)
    for path in options.paths:
        if (reason := why_not(path)) is not None:
            print(f"{path} is not measured: {reason}", file=sys.stderr)
    anyio.run(_run, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
