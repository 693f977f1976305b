# SPDX-License-Identifier: AGPL-3.0-or-later
"""What an administrator may know of a speaker: how she is doing and what was lost.

No names and no words. Pure, but for the log.
"""

from __future__ import annotations

import logging
from typing import Any

from attrs import define

__all__ = ["Losses", "SpeakerBooks"]

_log = logging.getLogger(__name__)


@define
class Losses:
    """What went wrong so far, of one speaker or of all speakers of a call."""

    gaps: int = 0
    gap_s: float = 0.0
    """Seconds of audio that were never transcribed."""
    dropped_s: float = 0.0
    """Seconds of audio given up because the recogniser was away or too slow;
    part of `gap_s`."""
    errors: int = 0

    def add(self, other: Losses) -> None:
        """Count somebody else's in."""
        self.gaps += other.gaps
        self.gap_s += other.gap_s
        self.dropped_s += other.dropped_s
        self.errors += other.errors

    def status(self) -> dict[str, Any]:
        """Return the figures, rounded."""
        return {
            "gaps": self.gaps,
            "gap_s": round(self.gap_s, 2),
            "dropped_s": round(self.dropped_s, 2),
            "errors": self.errors,
        }


class SpeakerBooks:
    """Keeps account of one speaker and tells the log.

    Args:
        log_fields: Whose books these are, for each line of the log.
    """

    def __init__(self, log_fields: dict[str, Any]) -> None:
        self._log_fields = log_fields
        self._dropping = False
        """Whether the oldest audio that waits follows audio given up."""
        self.losses = Losses()
        self.state = "waiting for a place"
        self.last_error = ""

    def missed(self, seconds: float) -> None:
        """Audio was never transcribed."""
        self.losses.gaps += 1
        self.losses.gap_s += seconds

    def dropped(self, seconds: float) -> None:
        """Audio was given up; one hole as long as it goes on."""
        if not seconds:
            return
        self.losses.dropped_s += seconds
        self.losses.gap_s += seconds
        if not self._dropping:
            self._dropping = True
            self.losses.gaps += 1
            self.warn("audio waited too long for the recogniser: the oldest is lost")

    def handed_over(self) -> None:
        """Audio reached the recogniser: what is given up next is another hole."""
        self._dropping = False

    def failed(self, what: str, exc: Exception) -> None:
        """Something of this speaker's failed; it is told in one line."""
        self.losses.errors += 1
        while isinstance(exc, ExceptionGroup):
            exc = exc.exceptions[0]
        reason = str(exc) or type(exc).__name__
        self.last_error = f"{what}: {reason}"
        self.warn("a speaker's %s failed: %s", what, reason)

    def warn(self, text: str, *args: object) -> None:
        """Write a line that an administrator should see."""
        _log.warning(text, *args, extra=self._log_fields)

    def status(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "state": self.state,
            **self.losses.status(),
            "last_error": self.last_error,
        }
