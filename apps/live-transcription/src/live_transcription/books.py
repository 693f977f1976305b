# SPDX-License-Identifier: AGPL-3.0-or-later
"""What an administrator may know of a speaker: how she is doing and what was lost.

No names and no words. Pure, but for the log.
"""

from __future__ import annotations

from typing import Any

from attrs import define

from .roomlog import RoomLog

__all__ = ["Losses", "SpeakerBooks"]


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
        session_id: The speaker's HPB session id.
        log: Her room's.
    """

    def __init__(self, session_id: str, log: RoomLog) -> None:
        self._session_id = session_id
        self._log = log
        self._dropping = False
        """Whether the oldest audio that waits follows audio given up."""
        self._behind_since_s: float | None = None
        """`dropped_s` when it began that audio waits too long; None if it does not."""
        self.losses = Losses()
        self.state = "waiting for a place"
        self.last_error = ""

    def missed(self, seconds: float) -> None:
        """Audio was never transcribed."""
        self.losses.gaps += 1
        self.losses.gap_s += seconds

    def dropped(self, seconds: float) -> bool:
        """Audio was given up; one hole as long as it goes on.

        Returns:
            Whether this is the first since nothing waited: not each hole that an
            overloaded recogniser makes.
        """
        if not seconds:
            return False
        first = self._behind_since_s is None
        if self._behind_since_s is None:
            self._behind_since_s = self.losses.dropped_s
            self.warn("audio waited too long for the recogniser: the oldest is lost")
        self.losses.dropped_s += seconds
        self.losses.gap_s += seconds
        if not self._dropping:
            self._dropping = True
            self.losses.gaps += 1
        return first

    def handed_over(self) -> None:
        """Audio reached the recogniser: what is given up next is another hole."""
        self._dropping = False

    def caught_up(self) -> None:
        """No audio waits any more."""
        if self._behind_since_s is not None:
            lost_s = self.losses.dropped_s - self._behind_since_s
            self._behind_since_s = None
            text = "the recogniser has caught up; %.1f s of audio were lost"
            self._log.info(self._session_id, text, lost_s)

    def failed(self, what: str, exc: Exception) -> None:
        """Something of this speaker's failed and may be tried again."""
        self.losses.errors += 1
        while isinstance(exc, ExceptionGroup):
            exc = exc.exceptions[0]
        reason = str(exc) or type(exc).__name__
        self.last_error = f"{what}: {reason}"
        self._log.begin(self._session_id, f"a speaker's {what} failed: {reason}")

    def waiting(self, reason: str) -> None:
        """The recogniser is away, for this reason; it is tried again."""
        self.last_error = reason
        self._log.begin(self._session_id, f"waiting for the recogniser: {reason}")

    def works(self) -> None:
        """The recogniser listens."""
        self._log.end(self._session_id)

    def warn(self, text: str, *args: object) -> None:
        """Write a line that an administrator should see."""
        self._log.warn(self._session_id, text, *args)

    def close(self) -> None:
        """The speaker has stopped."""
        self._log.forget(self._session_id)

    def status(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "state": self.state,
            **self.losses.status(),
            "last_error": self.last_error,
        }
