# SPDX-License-Identifier: MIT
"""Which audio is kept, sent again, forgotten, or given up with a gap."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

from ..core import FRAME_S, SAMPLE_RATE
from ..events import SessionEvent
from ._feeder import Feeder
from ._gaps import GapKeeper
from ._hearing import Hearing
from ._link import Link
from ._restarts import Restarts
from .metrics import Meter
from .options import SessionOptions

OVERLAP_S = 1.0
"""Audio before the last word that a cold recogniser hears again at a seam."""

SEAM_SEARCH_S = 0.4
"""How far back a quiet place for the seam is looked for."""

SLACK_S = 6.0
"""Audio kept beyond the longest outage: the seam's overlap and the way back."""

WORD_S = 0.8
"""Longest sound that is taken for one word at the edge of a gap."""


class SettledAt(enum.Enum):
    """What lies where the surely transcribed audio ends."""

    WORD = enum.auto()
    """The begin of a word that came out."""
    HEARING = enum.auto()
    """The place up to which the recogniser had heard enough to say it."""
    SOUND_EDGE = enum.auto()
    """The end of a sound, or of a gap."""


class Keeper:
    """Looks after the ring: from where to send again, what is lost for good.

    Args:
        options: The session's.
        feeder: Holds the ring.
        hearing: Knows the delivered words.
        restarts: Knows whether processed audio may still be wanted.
        meter: Counts.
        emit: Takes gaps for the reader.
    """

    def __init__(
        self,
        options: SessionOptions,
        feeder: Feeder,
        hearing: Hearing,
        restarts: Restarts,
        meter: Meter,
        emit: Callable[[SessionEvent], None],
    ) -> None:
        self._options = options
        self._feeder = feeder
        self._ring = feeder.ring
        self._hearing = hearing
        self._restarts = restarts
        self._meter = meter
        self._emit = emit
        self._gaps = GapKeeper()
        self._settled = 0.0
        """Media seconds up to which all words are surely out."""
        self._settled_at = SettledAt.SOUND_EDGE
        self._lost_until = -math.inf
        """Media seconds where the latest gap ends: no later one begins before it."""
        self._backlog_s = options.cold_start_s

    @property
    def lost_s(self) -> float:
        """Seconds lost so far."""
        return self._gaps.total_s

    def begin(self, media_time: float) -> None:
        """Note where the very first audio begins."""
        self._settled = media_time

    # -- settled audio -----------------------------------------------------------

    def settle(self, link: Link) -> None:
        """Forget audio that will not be sent again."""
        feeder, ledger = self._feeder, link.ledger
        settled = feeder.map.media_time(ledger.settled_s)
        settled = min(settled, self._ring.media_end())
        if settled > self._settled:
            self._settled = settled
            by_word = ledger.settled_by_word
            self._settled_at = SettledAt.WORD if by_word else SettledAt.HEARING
        keep = feeder.map.media_time(ledger.replay_from_s(OVERLAP_S)) - SEAM_SEARCH_S
        if self._restarts.keeps_audio:
            keep = min(keep, self._hearing.last_word_start - OVERLAP_S)
        oldest = self._ring.media_at_cursor() - self._options.replay_s
        self._ring.release(max(keep, oldest))

    def all_out(self) -> None:
        """Note that the words of everything sent so far are out."""
        self._settled = max(self._settled, self._ring.media_at_cursor())
        self._settled_at = SettledAt.SOUND_EDGE

    def rewind(self, link: Link) -> None:
        """Put the cursor where the next epoch has to begin.

        When the recogniser was deaf, that is the last word: the audio since then was
        processed without being heard.
        """
        feeder = self._feeder
        if not feeder.map.samples:
            return
        self.settle(link)
        cut = feeder.map.media_time(link.ledger.replay_from_s(OVERLAP_S))
        if self._restarts.wants_words:
            cut = min(cut, self._hearing.last_word_start)
        feeder.rewind(self._ring.quiet_point(cut, SEAM_SEARCH_S))
        if self._ring.forgotten_until > self._settled:
            # A recogniser that said nothing for longer than audio is kept.
            self._lose(self._settled, self._ring.forgotten_until, "overflow")

    # -- too much audio ------------------------------------------------------------

    def expect_cold_start(self) -> None:
        """Keep as much as a server may need that starts from zero."""
        self._backlog_s = self._options.cold_start_s

    def make_room(self, duration_s: float, *, cold: bool) -> bool:
        """Give up the oldest waiting audio if there is too much.

        Args:
            duration_s: Of the audio that comes.
            cold: Whether a start from zero may still be under way.

        Returns:
            Whether there was room without that.
        """
        waiting_s = self._ring.waiting_s
        if not cold and waiting_s <= self._options.replay_s:
            # The backlog of the start has been worked off.
            self._backlog_s = self._options.replay_s
        excess_s = waiting_s + duration_s - (self._backlog_s + SLACK_S)
        if excess_s < 0.5 / SAMPLE_RATE or not waiting_s:
            return True
        self._meter.overflow_s += self._give_up(excess_s, "overflow")
        return False

    def drop_late(self, now: float) -> None:
        """Give up waiting audio that is too old to be worth a caption."""
        lateness_s = self._options.max_lateness_s
        if lateness_s is None:
            return
        while (piece := self._ring.peek()) and now - piece.arrived > lateness_s:
            self._give_up(len(piece.samples) / SAMPLE_RATE, "too late")

    def keep_quiet(self, seconds: float) -> None:
        """Skip waiting audio, which is quiet, but for its last part."""
        spare_s = self._ring.waiting_s - seconds
        if spare_s > 0:
            self._feeder.give_up(round(spare_s * SAMPLE_RATE))
            self._meter.skipped_quiet_s += spare_s
        self.all_out()
        self._ring.release(self._settled)

    # -- gaps ----------------------------------------------------------------------

    def end_gap(self) -> None:
        """Complete the gap at the cursor: the rest of a word is of no use."""
        if self._gaps.is_open and self._ring.waiting:
            at = self._ring.media_at_cursor()
            rest_s = self._ring.sound_end(at, WORD_S) - at
            if rest_s > 0:
                self._give_up(rest_s, self._gaps.reason)
        self._close_gap()

    def close(self) -> None:
        """The session ends: what still waits is lost."""
        if self._ring.waiting:
            self._give_up(self._ring.waiting_s, "not transcribed")
        self._close_gap()

    def _give_up(self, seconds: float, reason: str) -> float:
        """Skip waiting audio for good; returns the seconds that are lost by it.

        What was heard before, and waited to be sent again only for the seam, is
        not lost.
        """
        self._refine_settled()
        start, end = self._feeder.give_up(round(seconds * SAMPLE_RATE))
        return self._lose(max(start, self._settled), end, reason)

    def _lose(self, start: float, end: float, reason: str) -> float:
        self._settled = max(end, self._settled)
        self._lost_until = max(end, self._lost_until)
        for gap in self._gaps.lose(start, end, reason):
            self._emit(gap)
        return max(0.0, end - start)

    def _refine_settled(self) -> None:
        """Move to the edge of a sound: words end with theirs, and begin with it."""
        ring, settled = self._ring, self._settled
        match self._settled_at:
            case SettledAt.WORD:
                # Words are dated on the recogniser's grid, up to a step early.
                self._settled = ring.sound_end(settled + FRAME_S, WORD_S)
            case SettledAt.HEARING:
                begin = max(ring.sound_start(settled, WORD_S), self._lost_until)
                word = self._hearing.last_word_start
                is_out = begin < settled and word > begin - 2 * FRAME_S
                end = ring.sound_end(settled, WORD_S)
                self._settled = end if is_out else begin
            case SettledAt.SOUND_EDGE:
                pass
        self._settled_at = SettledAt.SOUND_EDGE

    def _close_gap(self) -> None:
        for gap in self._gaps.close():
            self._emit(gap)
