# SPDX-License-Identifier: MIT
"""When the gateway says `vad_end`: once for each pause after words."""

from __future__ import annotations

__all__ = ["PauseRule"]

HEAD = 2
"""The head that tells whether no word follows within 2 s."""

THRESHOLD = 0.6

STEPS = 2
"""Steps in a row above it."""

FIRST_STEPS = 12
"""What the heads say in the first steps of a stream is noise."""


class PauseRule:
    """Decides on the pauses of one epoch.

    Source:
        modal-serving.md 6.5: smoothed probability of the 2 s head above 0.6 for at
        least two steps, after a word, not within the first twelve steps.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._last = 0.0
        self._above = 0
        self._armed = False

    def word(self) -> None:
        """Note a word: the next pause counts."""
        self._armed = True
        self._above = 0

    def step(self, probabilities: tuple[float, ...]) -> bool:
        """Take the heads of one step; True where a pause begins."""
        if len(probabilities) <= HEAD:
            return False
        now = probabilities[HEAD]
        self._steps += 1
        smooth = (self._last + now) / 2
        self._last = now
        self._above = self._above + 1 if smooth > THRESHOLD else 0
        if not self._armed or self._steps <= FIRST_STEPS or self._above < STEPS:
            return False
        self._armed = False
        return True
