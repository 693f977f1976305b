# SPDX-License-Identifier: MIT
"""Notice a recogniser that runs but has stopped hearing.

Kyutai's models at times say nothing for a long stretch of clear speech although
every frame is acknowledged (delayed-streams-modeling issues 11 and 146). A fresh
start heals them; the speech of the deaf stretch is then sent again.
"""

from __future__ import annotations

from attrs import frozen

__all__ = ["DeafRules", "DeafWatch"]


@frozen(kw_only=True)
class DeafRules:
    """When a silent recogniser is suspected."""

    speech_s: float = 8.0
    """Seconds of loud audio sent without a word coming back, and seconds on the
    clock, before a restart is wanted at the next pause."""
    force_s: float = 15.0
    """The same, before it is wanted at once."""
    longest_s: float = 120.0
    """Each vain restart doubles both, up to this: music and machines have no words."""


class DeafWatch:
    """Counts loud audio without words.

    Args:
        rules: The limits.
        now: Monotonic seconds.
    """

    def __init__(self, rules: DeafRules, now: float) -> None:
        self._rules = rules
        self._loud_s = 0.0
        self._since = now
        self._factor = 1.0

    @property
    def has_doubts(self) -> bool:
        """Whether there was loud audio since the last word."""
        return self._loud_s > 0

    @property
    def is_vain(self) -> bool:
        """Whether the last restart has brought no word yet: no use in a replay."""
        return self._factor > 1.0

    def suspects(self, now: float) -> bool:
        """Whether a fresh start is wanted at the next pause."""
        return self._is_over(self._rules.speech_s, now)

    def insists(self, now: float) -> bool:
        """Whether a fresh start is wanted at once."""
        return self._is_over(self._rules.force_s, now)

    def loud(self, seconds: float) -> None:
        """Note loud audio that went out."""
        self._loud_s += seconds

    def word(self, now: float) -> None:
        """Note a word: it hears."""
        self._loud_s = 0.0
        self._since = now
        self._factor = 1.0

    def restarted(self, now: float, *, on_purpose: bool) -> None:
        """Note a new connection or a reset.

        Args:
            now: Monotonic seconds.
            on_purpose: Whether because of this watch.
        """
        self._loud_s = 0.0
        self._since = now
        if on_purpose:
            self._factor *= 2.0

    def _is_over(self, seconds: float, now: float) -> bool:
        limit = min(seconds * self._factor, max(seconds, self._rules.longest_s))
        # Both: a backlog is sent faster than a server without reports may hear it.
        return self._loud_s >= limit and now - self._since >= limit
