# SPDX-License-Identifier: MIT
"""The caller's side: audio comes in, words are asked for, the input ends.

No await, no clock. Here is known when the caller was last heard, and so when a stall
or a long silence is to have consequences.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..core import SAMPLE_RATE
from ._absence import Absence
from ._feeder import Feeder
from ._keeper import Keeper
from .metrics import Meter
from .options import SessionOptions

Samples = npt.NDArray[np.float32]

NEVER = math.inf

BETWEEN_WORDS_S = 0.16
"""So long a quiet is not within a word; stop consonants have about 0.1 s."""


class Intake:
    """Takes what the caller gives and asks for.

    Args:
        options: The session's.
        feeder: Gets the audio and the marks.
        keeper: Gives audio up where there is too much.
        absence: Learns that somebody speaks, and that the input ended.
        meter: Counts.
        now: Monotonic seconds.
    """

    def __init__(
        self,
        options: SessionOptions,
        feeder: Feeder,
        keeper: Keeper,
        absence: Absence,
        meter: Meter,
        now: float,
    ) -> None:
        self._options = options
        self._feeder = feeder
        self._keeper = keeper
        self._absence = absence
        self._meter = meter
        self._next_media = 0.0
        self._playout = -math.inf
        self._last_loud = now
        self._loud_until = 0.0
        self._fulfilled: list[int] = []

    # -- audio -------------------------------------------------------------------------

    def admit(
        self, samples: Samples, media_time: float | None, lag_s: float, now: float
    ) -> None:
        """Take audio.

        Args:
            samples: Mono PCM, float32, shape `(n,)`, 24 000 Hz; copied.
            media_time: Media seconds of the pushed chunk; None continues.
            lag_s: Seconds by which the resampler was behind at its begin.
            now: Monotonic seconds.
        """
        start = self._next_media
        if media_time is not None:
            start = max(start, media_time - lag_s)
        if not self._feeder.ring.end:
            self._keeper.begin(start)
        duration_s = len(samples) / SAMPLE_RATE
        self._next_media = start + duration_s
        self._playout = max(self._playout, now) + duration_s
        self._meter.pushed_s += duration_s
        loud = self._feeder.ring.append(samples, start, now)
        self._meter.arrivals.admitted(self._next_media, now)
        if loud:
            self._last_loud = now
            self._loud_until = self._next_media
            self._absence.is_idle = False
            if self._meter.first_loud_at is None:
                self._meter.first_loud_at = now
        elif self._absence.is_idle:
            self._keeper.keep_quiet(self._options.pre_roll_s)

    def has_room(self, duration_s: float) -> bool:
        """Whether so much audio may be pushed; anything fits into an empty buffer."""
        waiting_s = self._feeder.ring.waiting_s
        return waiting_s <= 0 or waiting_s + duration_s <= self._options.input_buffer_s

    def make_room(self, duration_s: float) -> bool:
        """Give up the oldest waiting audio if there is too much, with a gap.

        Returns:
            Whether there was room without that.
        """
        return self._keeper.make_room(duration_s, cold=self._absence.is_cold)

    def align(self, lag_s: float) -> None:
        """Note how far the resampler may be behind, seconds."""
        # In steps of 10 ms, as the windows of recognisers: what they hear stays the
        # same.
        self._feeder.lead_samples = math.ceil(lag_s * 100) * SAMPLE_RATE // 100

    @property
    def has_work(self) -> bool:
        """Whether admitted audio could now make a frame: worth waking somebody."""
        return self._feeder.frame_is_complete

    # -- words asked for ---------------------------------------------------------------

    def request_flush(self) -> int:
        """Ask for the words of all audio so far; `fulfilled` names it when done."""
        return self._feeder.marks.add()

    def end_input(self, now: float) -> None:
        """Note that no audio follows."""
        if not self._absence.is_over:
            self._absence.ended(now)
            self._feeder.marks.add()

    def confirm(self, token: int | None) -> None:
        """Note that words are out: of a flush, or (None) of all that was sent."""
        self._fulfilled += self._feeder.marks.confirm(token)

    def fulfilled(self) -> list[int]:
        """Take the ids of flushes whose words are out."""
        done, self._fulfilled = self._fulfilled, []
        return done

    # -- silence -----------------------------------------------------------------------

    @property
    def stall_due(self) -> float:
        """When audio that does not come counts as a pause."""
        options = self._options
        # The silence of a flush must not come into the middle of a word: a network
        # that stalls goes on where it stopped, and so does whoever mutes.
        quiet_s = self._next_media - self._loud_until
        stall_s = (
            options.stall_s if quiet_s >= BETWEEN_WORDS_S else options.stall_loud_s
        )
        return self._playout + stall_s

    @property
    def idle_due(self) -> float:
        """When the place may be given back if nobody speaks; infinite for never."""
        idle_s = self._options.idle_release_s
        if idle_s is None or self._absence.is_over:
            return NEVER
        return self._last_loud + idle_s
