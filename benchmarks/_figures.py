# SPDX-License-Identifier: MIT
"""What this process costs, and how figures are shown."""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = [
    "Row",
    "conclude",
    "descriptors",
    "percentile",
    "rss_kb",
    "show",
    "threads",
    "waited_for_cpu_s",
]

Row = Mapping[str, object]
"""One line of figures: keys say what and in which unit."""

PROC = Path("/proc/self")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent do not exceed; NaN if none."""
    if not values:
        return math.nan
    ranked = sorted(values)
    place = math.ceil(percent / 100 * len(ranked)) - 1
    return ranked[min(max(place, 0), len(ranked) - 1)]


def rss_kb() -> float:
    """Memory of this process, kB, after a garbage collection."""
    gc.collect()
    pages = int((PROC / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1000


def waited_for_cpu_s() -> float:
    """Seconds that this process (main thread) was ready to run but had no CPU.

    Source: `/proc/PID/schedstat`, second field, nanoseconds.
    """
    return int((PROC / "schedstat").read_text().split()[1]) / 1e9


def descriptors() -> int:
    """Open file descriptors of this process, sockets included."""
    return len(list((PROC / "fd").iterdir()))


def threads() -> int:
    """Threads of Python in this process."""
    return threading.active_count()


def show(rows: Sequence[Row], *, as_json: bool) -> None:
    """Print rows, as a table or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [keys, *([_cell(row.get(key, "")) for key in keys] for row in rows)]
    # Turned around: many figures and few rows read better so.
    columns = list(zip(*lines, strict=True))
    widths = [max(len(line[n]) for line in columns) for n in range(len(lines))]
    for column in columns:
        cells = [column[0].ljust(widths[0])]
        cells += [
            cell.rjust(width)
            for cell, width in zip(column[1:], widths[1:], strict=True)
        ]
        print("  ".join(cells))


def conclude(
    rows: Sequence[Row], summary: Row, wrong: Sequence[str], *, as_json: bool
) -> int:
    """Print a soak and what is wrong with it; returns the exit status."""
    if as_json:
        show([*rows, summary], as_json=True)
    else:
        show(rows, as_json=False)
        print()
        show([summary], as_json=False)
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
