# SPDX-License-Identifier: MIT
"""`kyutai-stream backends`: what is installed, and what is broken."""

from __future__ import annotations

import json
import sys

from attrs import asdict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..registry import BackendInfo, available_backends
from ._failures import one_line

__all__ = ["list_backends"]


def list_backends(*, as_json: bool) -> int:
    """Print all backends; a broken one is a row like the others.

    Returns:
        The exit code: 0, also with broken backends, since nothing asked for them.
    """
    infos = available_backends()
    if as_json:
        records = [asdict(info) for info in infos]
        sys.stdout.write(json.dumps(records, indent=2, ensure_ascii=False) + "\n")
        return 0
    console = Console()
    if not console.is_terminal:
        # Nobody wants a table folded to 80 columns in a file.
        console = Console(width=200)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("backend", "from", "languages", "delay", "can", "what it is"):
        table.add_column(heading, no_wrap=heading == "backend", overflow="fold")
    for info in infos:
        table.add_row(*(Text(cell) for cell in _cells(info)))
    console.print(table)
    return 0


def _cells(info: BackendInfo) -> tuple[str, ...]:
    can = info.capabilities
    if info.error is not None or can is None:
        problem = one_line(info.error or "it says nothing about itself")
        return info.name, info.distribution, "", "", "not as it stands:", problem
    abilities = {
        "recognises": can.transcribes,
        "endpoints": can.endpointing or bool(can.pause_horizons_s),
        "acks": can.acks,
        "punctuation": can.punctuation,
    }
    return (
        info.name,
        info.distribution,
        " ".join(can.languages) or "any",
        f"{can.nominal_delay_s:.2f} s",
        ", ".join(name for name, ability in abilities.items() if ability),
        one_line(info.description),
    )
