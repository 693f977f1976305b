# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a reader sees in the place of words: a notice that needs no language. Pure.

Who cannot hear a call cannot tell silence from words that are missing or late. So
captions say it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spreed_signaling.media import AudioChunk

__all__ = ["NOTABLE_S", "Notice", "Unheard", "is_notice"]

LATE_S = 3.0
"""Speech that waits for the recogniser is announced after so much of it. A server that
is restarted is back sooner; one that starts from zero takes a minute."""

SPEECH_DBFS = -50.0
"""What is quieter is an open microphone, not speech."""

NOTABLE_S = 0.5
"""A loss shorter than this is not worth a notice: at most a short word."""


class Notice(enum.StrEnum):
    """The texts."""

    LATE = "…"
    """She speaks, and her words will come later."""
    LOST = "[…]"
    """Here she said words that will never come."""


def is_notice(text: str) -> bool:
    """Whether a caption is a notice instead of words."""
    return text in {notice.value for notice in Notice}


class Unheard:
    """Watches for how long a speaker has not been heard by the recogniser."""

    def __init__(self) -> None:
        self._speech_s = 0.0

    def waits(self, chunk: AudioChunk) -> bool:
        """Note audio that waits; True once, when the readers should know."""
        if chunk.level_dbfs < SPEECH_DBFS:
            return False
        before = self._speech_s
        self._speech_s += len(chunk.samples) / chunk.sample_rate
        return before < LATE_S <= self._speech_s

    def heard(self) -> None:
        """The recogniser listens."""
        self._speech_s = 0.0
