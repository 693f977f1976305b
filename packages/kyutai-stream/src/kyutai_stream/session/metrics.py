# SPDX-License-Identifier: MIT
"""Figures of a session: what it used, what it lost, how long words took."""

from __future__ import annotations

from attrs import define, field, frozen

from ..core import ArrivalClock, Delays, DelaySummary
from ..events import Usage

__all__ = ["SessionMetrics"]


@frozen(kw_only=True)
class SessionMetrics:
    """A snapshot; all times in seconds, counts since the session began."""

    usage: Usage
    """As the event of this name, up to now."""
    waiting_s: float
    """Audio accepted and not yet sent (again)."""
    server_lag_s: float
    """Audio sent and not yet processed; 0 where the backend does not report."""
    time_to_first_word_s: float | None
    """From the arrival of the first loud audio to the first word."""
    word_latency: DelaySummary
    """From the arrival of a word's last sound to its delivery. Replays count in."""
    finalization_delay: DelaySummary
    """From a flush (asked for, or because audio stopped) to its confirmation."""
    time_to_final_segment: DelaySummary
    """TTFS: from the arrival of a segment's last sound to its final."""
    reconnects: int
    """Connections that had worked and were lost."""
    failed_attempts: int
    """Attempts to connect that failed."""
    capacity_refusals: int
    """Those of them for want of a free place."""
    deaf_restarts: int
    """Restarts of a recogniser that had stopped to say words."""
    language_resets: int
    """Resets because of the wrong language."""
    duplicates_dropped: int
    """Words heard a second time after a reconnect, and left out."""
    skipped_quiet_s: float
    """Quiet audio not sent, to catch up or because nobody spoke."""
    overflow_s: float
    """Audio of `try_push` given up because the buffer was full; part of
    `usage.gap_s`."""


@define(eq=False, kw_only=True)
class Meter:
    """Collects the figures."""

    pushed_s: float = 0.0
    sent_s: float = 0.0
    processed_s: float = 0.0
    silence_s: float = 0.0
    replayed_s: float = 0.0
    connected_s: float = 0.0
    overflow_s: float = 0.0
    skipped_quiet_s: float = 0.0
    connections: int = 0
    words: int = 0
    reconnects: int = 0
    failed_attempts: int = 0
    capacity_refusals: int = 0
    deaf_restarts: int = 0
    language_resets: int = 0
    duplicates_dropped: int = 0
    first_loud_at: float | None = None
    first_word_at: float | None = None
    arrivals: ArrivalClock = field(factory=ArrivalClock)
    word_latency: Delays = field(factory=Delays)
    finalization: Delays = field(factory=Delays)
    to_final: Delays = field(factory=Delays)

    def word_out(self, now: float) -> None:
        """Note a delivered word."""
        self.words += 1
        if self.first_word_at is None:
            self.first_word_at = now

    def word_ended(self, media_end: float, emitted_at: float) -> None:
        """Note where a delivered word ended."""
        arrived = self.arrivals.at(media_end)
        if arrived is not None:
            self.word_latency.add(emitted_at - arrived)

    def final_out(self, media_end: float, now: float) -> None:
        """Note a final."""
        arrived = self.arrivals.at(media_end)
        if arrived is not None:
            self.to_final.add(now - arrived)

    def usage(self, *, connected_s: float, processed_s: float, gap_s: float) -> Usage:
        """What was used.

        Args:
            connected_s: Of the connection that is open now, seconds.
            processed_s: Likewise.
            gap_s: Lost so far, seconds.
        """
        return Usage(
            audio_pushed_s=self.pushed_s,
            audio_sent_s=self.sent_s,
            audio_processed_s=self.processed_s + processed_s,
            silence_s=self.silence_s,
            replayed_s=self.replayed_s,
            gap_s=gap_s,
            connected_s=self.connected_s + connected_s,
            connections=self.connections,
            words=self.words,
        )

    def snapshot(
        self, usage: Usage, *, waiting_s: float, lag_s: float
    ) -> SessionMetrics:
        """Everything, as of now."""
        first = None
        if self.first_word_at is not None and self.first_loud_at is not None:
            first = max(0.0, self.first_word_at - self.first_loud_at)
        return SessionMetrics(
            usage=usage,
            waiting_s=waiting_s,
            server_lag_s=lag_s,
            time_to_first_word_s=first,
            word_latency=self.word_latency.summary(),
            finalization_delay=self.finalization.summary(),
            time_to_final_segment=self.to_final.summary(),
            reconnects=self.reconnects,
            failed_attempts=self.failed_attempts,
            capacity_refusals=self.capacity_refusals,
            deaf_restarts=self.deaf_restarts,
            language_resets=self.language_resets,
            duplicates_dropped=self.duplicates_dropped,
            skipped_quiet_s=self.skipped_quiet_s,
            overflow_s=self.overflow_s,
        )
