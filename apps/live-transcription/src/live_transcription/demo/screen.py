# SPDX-License-Identifier: AGPL-3.0-or-later
"""Which view of the demo fits where its output goes."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console

from .output import Output
from .plain import JsonOutput, PlainOutput
from .terminal import TerminalOutput

__all__ = ["choose_output"]


def choose_output(
    *, as_json: bool, stdout: TextIO, stderr: TextIO, no_color: bool
) -> Output:
    """Pick the view that fits where the output goes.

    Args:
        as_json: Whether JSON Lines were asked for.
        stdout: Standard output.
        stderr: Standard error.
        no_color: Whether the user's NO_COLOR is set: append-only text then.
    """
    if as_json:
        return JsonOutput(stdout=stdout, stderr=stderr)
    if no_color or not stdout.isatty():
        return PlainOutput(stdout=stdout, stderr=stderr)
    console = Console(file=stdout, highlight=False, markup=False)
    if console.is_dumb_terminal:
        return PlainOutput(stdout=stdout, stderr=stderr)
    return TerminalOutput(console, stderr=stderr)
