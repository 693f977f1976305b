# SPDX-License-Identifier: MIT
"""When a working recogniser is restarted: it is deaf, or writes another language."""

from __future__ import annotations

from ..core import DeafWatch
from ._actions import Action, AskReset, Leave, Leaving
from ._feeder import Feeder
from ._hearing import Hearing
from ._link import Link
from .metrics import Meter
from .options import SessionOptions

PAUSE_S = 0.3
"""Quiet audio that makes a pause: in mid-speech a reset has made models mute for
20 to 30 seconds."""


class Restarts:
    """Decides on restarts of one session.

    Args:
        options: The session's.
        meter: Counts.
        now: Monotonic seconds.
    """

    def __init__(self, options: SessionOptions, meter: Meter, now: float) -> None:
        self._resets_language = options.language_policy == "reset"
        self._meter = meter
        self._watch = DeafWatch(options.deaf, now) if options.deaf else None
        self._on_purpose = False
        self._for_words = False

    @property
    def keeps_audio(self) -> bool:
        """Whether processed audio since the last word may have to be sent again."""
        if self._for_words:
            return True
        watch = self._watch
        return watch is not None and watch.has_doubts and not watch.is_vain

    @property
    def wants_words(self) -> bool:
        """Whether the restart under way is to bring words that were missed."""
        return self._for_words

    def loud(self, seconds: float) -> None:
        """Note sound that went out."""
        if self._watch is not None:
            self._watch.loud(seconds)

    def word(self, now: float) -> None:
        """Note a new word."""
        if self._watch is not None:
            self._watch.word(now)

    def begin(self, now: float) -> None:
        """Note a new connection or a confirmed reset."""
        if self._watch is not None:
            self._watch.restarted(now, on_purpose=self._on_purpose)
        self._on_purpose = self._for_words = False

    def next_action(
        self, link: Link, feeder: Feeder, hearing: Hearing, now: float
    ) -> Action | None:
        """Say whether to restart now; to be asked when no frame lies ready."""
        pause = not link.ledger.in_flight and feeder.quiet_s >= PAUSE_S
        if self._is_deaf(link, now, pause=pause):
            self._on_purpose = True
            self._for_words = self._watch is not None and not self._watch.is_vain
            self._meter.deaf_restarts += 1
            return _restart(link, now, reset=pause)
        if self._resets_language and hearing.language_wrong and pause:
            hearing.language_wrong = False
            self._meter.language_resets += 1
            return _restart(link, now, reset=True)
        if link.is_draining and pause and not hearing.is_open:
            return Leave(why=Leaving.DRAINING)
        return None

    def _is_deaf(self, link: Link, now: float, *, pause: bool) -> bool:
        watch = self._watch
        if watch is None or not link.capabilities.transcribes:
            return False
        return watch.suspects(now) if pause else watch.insists(now)


def _restart(link: Link, now: float, *, reset: bool) -> Action:
    if reset and link.capabilities.resettable:
        link.debts.asked_reset(now)
        return AskReset()
    return Leave(why=Leaving.RESTART)
