# SPDX-License-Identifier: MIT
"""Count what one connection was sent and what it has processed.

This is the acknowledgement clock of the session. It counts today; the ring of
frames that were sent and not yet processed, and the plan which of them to send
again after a reconnect, belong here too (they need exactly these figures).
"""

from __future__ import annotations

from .framing import FRAME_S

__all__ = ["Ledger"]


class Ledger:
    """Frames of one epoch: sent, processed, and up to where words came out.

    Args:
        acks: Whether the backend reports processed frames. Without reports the
            position is estimated as what was sent less the delay.
        delay_s: Seconds of further audio the recogniser needs for a word.
    """

    def __init__(self, *, acks: bool, delay_s: float) -> None:
        self._acks = acks
        self._delay_s = delay_s
        self._last_word_s = 0.0
        self._voice_since_s: float | None = None
        self.frames_sent = 0
        """Frames handed to the connection."""
        self.frames_processed = 0
        """Frames reported as processed; stays 0 without acknowledgements."""

    @property
    def heard_s(self) -> float:
        """Seconds of the sent stream that the recogniser has heard."""
        if self._acks:
            return self.frames_processed * FRAME_S
        return max(0.0, self.frames_sent * FRAME_S - self._delay_s)

    @property
    def settled_s(self) -> float:
        """Seconds of the sent stream whose words are surely out.

        What lies behind it is lost when the connection is.
        """
        if self._voice_since_s is not None:
            # A backend with its own endpoints may hold words until then.
            return max(self._last_word_s, self._voice_since_s)
        behind = self._delay_s if self._acks else 0.0
        return max(self._last_word_s, self.heard_s - behind)

    def sent(self) -> None:
        """Note one more frame sent."""
        self.frames_sent += 1

    def processed(self, frames: int) -> None:
        """Note a report; reports that go backwards or too far are cut off."""
        within = min(frames, self.frames_sent)
        self.frames_processed = max(self.frames_processed, within)

    def word_out(self, until_s: float) -> None:
        """Note that a word reaching to `until_s` of the sent stream came out."""
        self._last_word_s = max(self._last_word_s, until_s)

    def voice(self, since_s: float | None) -> None:
        """Note that an utterance began there, or (None) that all of it is out."""
        self._voice_since_s = since_s
