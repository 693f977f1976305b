# SPDX-License-Identifier: MIT
"""Command line: `python -m spreed_signaling.testing.real prepare [SUITE ...]`."""

from __future__ import annotations

import argparse
import functools
import sys

import anyio

from . import HPB_SUITES, RealServersUnavailable, prepare

__all__ = ["main"]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Fetch the real servers and say what was done.

    Returns:
        0, or 1 with the reason on standard error if that is not possible here.
    """
    parser = argparse.ArgumentParser(
        prog="python -m spreed_signaling.testing.real",
        description="Real signaling server and Janus for tests, from Debian.",
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser(
        "prepare", help="download and install what is missing"
    )
    command.add_argument("suites", nargs="*", default=HPB_SUITES, metavar="SUITE")
    suites = tuple(parser.parse_args(arguments).suites)
    try:
        anyio.run(functools.partial(prepare, suites, progress=_say))
    except RealServersUnavailable as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    _say(f"ready: signaling servers of {', '.join(suites)}, and Janus")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
