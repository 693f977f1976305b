# SPDX-License-Identifier: MIT
"""The file that a recording is written to."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import anyio
from attrs import define, field

from ._format import Direction, Entry, Header

__all__ = ["Tape"]

CONTROL_BYTES = 64
"""Client messages up to this size are kept in full: 16 samples are no speech, and
moshi-server's control messages are binary."""


@define
class Tape:
    """Writes one file; each line at once, so that a crash loses nothing."""

    _file: TextIO
    _keep_audio: bool
    _began: float
    _over: bool = False
    closed: anyio.Event = field(factory=anyio.Event)
    """Set when the file is closed."""

    @classmethod
    def open(cls, path: Path, header: Header, *, keep_audio: bool) -> Tape:
        """Begin a file; an existing one is overwritten. Its time begins now."""
        tape = cls(path.open("w", encoding="utf-8"), keep_audio, anyio.current_time())
        tape._write(header.to_json())
        return tape

    def message(self, direction: Direction, message: str | bytes) -> None:
        """Note a message; of the client's audio only what may be kept."""
        small = len(message) <= CONTROL_BYTES
        keep = direction == "server" or self._keep_audio or small
        self._write(Entry.message(self._now(), direction, message, keep=keep).to_json())

    def end(self, direction: Direction, code: int, reason: str) -> None:
        """Note the end that one side made; the first one counts."""
        # The other side then sees the end that was passed on (or ends at the same
        # time); that is no new event.
        if self._over:
            return
        self._over = True
        entry = Entry(
            t=self._now(), dir=direction, kind="close", code=code, reason=reason
        )
        self._write(entry.to_json())

    def refusal(self, status: int, headers: dict[str, str]) -> None:
        """Note that the server refused the connection."""
        entry = Entry(
            t=self._now(), dir="server", kind="refused", status=status, headers=headers
        )
        self._write(entry.to_json())

    def close(self) -> None:
        """Close the file; what is noted later is lost."""
        self._file.close()
        self.closed.set()

    def _now(self) -> float:
        return anyio.current_time() - self._began

    def _write(self, line: str) -> None:
        if not self._file.closed:
            self._file.write(line + "\n")
            self._file.flush()
