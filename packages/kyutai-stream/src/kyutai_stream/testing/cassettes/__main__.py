# SPDX-License-Identifier: MIT
"""Record and play cassettes from a shell."""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio

from . import Cassette, CassetteError, play, record

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    with suppress(KeyboardInterrupt):
        try:
            if options.command == "record":
                anyio.run(_record, options)
            elif options.command == "play":
                anyio.run(_play, options)
            else:
                _show(options.cassette)
        except (CassetteError, OSError) as exc:
            _say(f"error: {exc}")
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kyutai_stream.testing.cassettes")
    commands = parser.add_subparsers(dest="command", required=True)
    recorder = commands.add_parser(
        "record", help="write what a client and a server say"
    )
    recorder.add_argument("--upstream", required=True, help="ws:// or wss:// address")
    recorder.add_argument("--listen", type=int, default=0, metavar="PORT")
    recorder.add_argument(
        "--audio",
        choices=("digest", "full"),
        default="digest",
        help="full writes the client's audio into the file",
    )
    recorder.add_argument("--note", default="", help="what the recording shows")
    recorder.add_argument("out", type=Path)
    player = commands.add_parser("play", help="serve recorded connections, in order")
    player.add_argument("--listen", type=int, default=0, metavar="PORT")
    player.add_argument("cassettes", type=Path, nargs="+")
    show = commands.add_parser("show", help="say what is in a file")
    show.add_argument("cassette", type=Path)
    return parser


async def _record(options: argparse.Namespace) -> None:
    async with record(
        options.upstream,
        options.out,
        audio=options.audio,
        note=options.note,
        port=options.listen,
    ) as recorder:
        _say(f"connect your client to {recorder.url}; Ctrl-C ends the recording")
        try:
            await _until_told()
        finally:
            _say(f"wrote {', '.join(map(str, recorder.files)) or 'nothing'}")


async def _play(options: argparse.Namespace) -> None:
    async with play(*options.cassettes, port=options.listen) as player:
        _say(f"connect your client to {player.url}; Ctrl-C ends")
        try:
            await _until_told()
        finally:
            _say("\n".join(player.mismatches) or "no mismatches")


async def _until_told() -> None:
    """Wait for Ctrl-C or SIGTERM, also where a shell in the background ignores one."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


def _show(path: Path) -> None:
    cassette = Cassette.load(path)
    header, entries = cassette.header, cassette.entries
    _say(f"{header.server}, recorded {header.recorded}, audio: {header.audio}")
    _say(f"{header.note}\n{header.redaction}".strip())
    seconds = entries[-1].t if entries else 0.0
    kinds = Counter(f"{entry.dir} {entry.kind}" for entry in entries)
    _say(f"{seconds:.1f} s: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
