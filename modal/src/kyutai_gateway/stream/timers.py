# SPDX-License-Identifier: MIT
"""The clocks of a stream: when something is due without anybody saying anything."""

from __future__ import annotations

import math

from .rules import StreamRules

__all__ = ["Timers"]

NEVER = math.inf

SECOND_LOOK_S = 0.5
"""A process that was stopped finds its time-outs over before it has read what came:
so a dead model is looked at twice."""


class Timers:
    """Plain times in seconds; the machine sets them, `deadline` is the next.

    Args:
        rules: The numbers.
        now: When the stream was accepted.
    """

    def __init__(self, rules: StreamRules, now: float) -> None:
        self._rules = rules
        self.ping = now + rules.ping_s
        self.rotate = now + rules.max_stream_s
        self.vad = NEVER
        """When a pause may be told: its step's words have had time to come."""
        self.last_flush = NEVER
        """When a draining stream takes no more audio."""
        self.close = NEVER
        """When a draining stream ends whatever is missing."""
        self.keepalive = NEVER
        self.hurry = False
        """Whether something is due soon that was not before; cleared by whoever has
        looked at the deadline."""
        self._keepalive_s = NEVER
        self.heard = now
        """When a message came, or none could because none was read."""
        self.voiced = now
        """When somebody spoke last."""
        self._minded = False
        self._owed: float | None = None
        self._second_look: float | None = None

    # -- what happens --------------------------------------------------------------

    def ready(self, now: float, keepalive_s: float | None) -> None:
        """The model answered: from now on a silent client is one too many."""
        self._minded = True
        self.heard = self.voiced = now
        self._keepalive_s = NEVER if keepalive_s is None else keepalive_s
        self.keepalive = now + self._keepalive_s

    def sent(self, now: float, *, owes: bool) -> None:
        """Something went upstream; the model owes steps from then on, or none."""
        self.keepalive = now + self._keepalive_s
        if owes and self._owed is None:
            self._owed = now

    def pause(self, at: float) -> None:
        """A pause is to be told then."""
        self.vad = at
        self.hurry = True

    def owed(self, now: float, owes: bool) -> None:
        """The model owes steps from now on, or owes none any more."""
        self._owed = now if owes else None
        self._second_look = None

    def finishing(self) -> None:
        """The client will not say anything any more."""
        self._minded = False

    # -- what is due ---------------------------------------------------------------

    @property
    def idle(self) -> float:
        """When a silent client is ended."""
        return self.heard + self._rules.idle_timeout_s if self._minded else NEVER

    @property
    def quiet(self) -> float:
        """When a client without speech is ended."""
        return self.voiced + self._rules.quiet_timeout_s if self._minded else NEVER

    @property
    def wedged(self) -> float:
        """When a model that owes steps has to be looked at."""
        if self._owed is None:
            return NEVER
        return self._second_look or self._owed + self._rules.wedged_s

    def looks_dead(self, now: float) -> bool:
        """Say so when the model was due twice."""
        if self._second_look is not None:
            return True
        self._second_look = now + SECOND_LOOK_S
        return False

    @property
    def deadline(self) -> float:
        """When something is due next; infinite for never."""
        return min(
            self.ping,
            self.rotate,
            self.vad,
            self.last_flush,
            self.close,
            self.keepalive,
            self.idle,
            self.quiet,
            self.wedged,
        )
