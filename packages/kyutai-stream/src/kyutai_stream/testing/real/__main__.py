# SPDX-License-Identifier: MIT
"""Command line: `python -m kyutai_stream.testing.real prepare` or `status`."""

from __future__ import annotations

import argparse
import functools
import sys

import anyio

from . import VERSION, MoshiServerUnavailable, prepare, unavailable_reason

__all__ = ["main"]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Build the real server and its weights, or say whether they are there.

    Returns:
        0, or 1 with the reason on standard error if it is not there afterwards.
    """
    parser = argparse.ArgumentParser(
        prog="python -m kyutai_stream.testing.real",
        description=f"The real moshi-server {VERSION} for tests, built with cargo.",
    )
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("prepare", help="build what is missing (some 10 minutes)")
    commands.add_parser("status", help="say whether it is ready, build nothing")
    command = parser.parse_args(arguments).command
    try:
        if command == "prepare":
            binary = anyio.run(functools.partial(prepare, progress=_say))
            _say(f"ready: {binary.path}")
            return 0
        reason = unavailable_reason()
        if reason is None:
            _say(f"ready: moshi-server {VERSION}")
            return 0
    except MoshiServerUnavailable as exc:
        reason = str(exc)
    sys.stderr.write(f"{reason}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
