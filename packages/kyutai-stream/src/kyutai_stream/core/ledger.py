# SPDX-License-Identifier: MIT
"""Count what one connection was sent and what it has processed.

This is the acknowledgement clock of the session: which part of the sent stream the
recogniser has heard, up to where its words are surely out, and from where to send
again when the connection is lost.
"""

from __future__ import annotations

from .framing import FRAME_S

__all__ = ["Ledger"]

WORD_S = 1.5
"""Longest time between the begin of a word and the sound that completes it: a
recogniser that has heard so much more (and its delay) has said it."""

UNREPORTED_S = 10.0
"""How far a server without reports may be behind what it was sent."""


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
        self._word_s = 0.0
        self._voice_since_s: float | None = None
        self.frames_sent = 0
        """Frames handed to the connection."""
        self.frames_processed = 0
        """Frames reported as processed; stays 0 without acknowledgements."""

    @property
    def in_flight(self) -> int:
        """Frames sent and not reported as processed; 0 without reports."""
        return self.frames_sent - self.frames_processed if self._acks else 0

    @property
    def heard_s(self) -> float:
        """Seconds of the sent stream that the recogniser has heard."""
        if self._acks:
            return self.frames_processed * FRAME_S
        return max(0.0, self.frames_sent * FRAME_S - self._delay_s)

    @property
    def settled_s(self) -> float:
        """Seconds of the sent stream whose words are surely out.

        What lies behind it would be lost if it could not be sent again.
        """
        if self._voice_since_s is not None:
            # A backend with its own endpoints may hold words until then.
            return max(self._word_s, self._voice_since_s)
        behind = self._delay_s if self._acks else 0.0
        return max(self._word_s, self.heard_s - behind)

    @property
    def settled_by_word(self) -> bool:
        """Whether `settled_s` is where a word lies that came out, not silence."""
        return 0.0 < self._word_s >= self.settled_s

    def replay_from_s(self, overlap_s: float) -> float:
        """Second of the sent stream from which to send again.

        Args:
            overlap_s: Seconds before the last word that a recogniser which starts
                cold needs to hear again.
        """
        if self._voice_since_s is not None:
            return max(0.0, self._voice_since_s - overlap_s)
        word_s = max(0.0, self._word_s - overlap_s)
        if not self._acks:
            return max(word_s, self.frames_sent * FRAME_S - UNREPORTED_S)
        return max(word_s, self.heard_s - self._delay_s - WORD_S)

    def sent(self) -> None:
        """Note one more frame sent."""
        self.frames_sent += 1

    def processed(self, frames: int) -> bool:
        """Note a report; reports that go backwards or too far are cut off.

        Returns:
            Whether it brought news.
        """
        before = self.frames_processed
        within = min(frames, self.frames_sent)
        self.frames_processed = max(before, within)
        return self.frames_processed > before

    def word_out(self, until_s: float) -> None:
        """Note that a word reaching to `until_s` of the sent stream came out."""
        self._word_s = max(self._word_s, until_s)

    def voice(self, since_s: float | None) -> None:
        """Note that an utterance began there, or (None) that all of it is out."""
        self._voice_since_s = since_s
