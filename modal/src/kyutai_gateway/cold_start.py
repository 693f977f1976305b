# SPDX-License-Identifier: MIT
"""How long a start took, and where the time went."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["ColdStart", "process_age_s"]

MARKS = ("boot", "exec", "listen", "ready", "first_word")


class ColdStart:
    """The moments of one start, each noted once.

    `boot` is the start of this process, `exec` that of moshi-server, `listen` when
    its port was open (the weights are loaded then), `ready` when its model answered
    a stream, `first_word` when it had recognised something.

    Args:
        now: Seconds on the clock of all later calls (`anyio.current_time`).
        age_s: How old this process is now.
        wall_s: What time it is now, seconds since 1970.
    """

    def __init__(self, now: float, *, age_s: float, wall_s: float) -> None:
        # One reading of the wall clock: it may be set while the server starts.
        self._offset = wall_s - now
        self._marks = {"boot": now - age_s}

    @classmethod
    def begin(cls, now: float, *, again: bool = False) -> ColdStart:
        """Start to note, with the real age and time of day.

        Args:
            now: Seconds.
            again: Whether it is a restart, whose `boot` is now.
        """
        wall_s = datetime.now(UTC).timestamp()
        age_s = 0.0 if again else process_age_s()
        return cls(now, age_s=age_s, wall_s=wall_s)

    def mark(self, name: str, now: float) -> bool:
        """Note a moment unless it was.

        Args:
            name: One of `MARKS`.
            now: Seconds.

        Returns:
            Whether it is new.
        """
        if name not in MARKS:
            raise ValueError(name)
        if name in self._marks:
            return False
        self._marks[name] = now
        return True

    def record(self) -> dict[str, float | None]:
        """Return the moments as seconds since 1970 (`boot_ts` …), None if not yet.

        Also the time from each to the next, by its end (`exec_s` …), seconds.
        """
        record: dict[str, float | None] = {}
        before: float | None = None
        for name in MARKS:
            at = self._marks.get(name)
            record[f"{name}_ts"] = None if at is None else round(at + self._offset, 3)
            if before is not None and at is not None:
                record[f"{name}_s"] = round(at - before, 3)
            before = at
        return record


def process_age_s() -> float:
    """Return how long this process runs, 0 where the system does not tell."""
    try:
        # Behind the name, which may hold anything; field 22 is the start.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
    return max(0.0, age_s)
