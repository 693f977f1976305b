# SPDX-License-Identifier: AGPL-3.0-or-later
"""Audio that waits until the recogniser listens. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spreed_signaling.media import AudioChunk

__all__ = ["Backlog"]


class Backlog:
    """First in, first out; beyond the limit the oldest audio gives way.

    Captions are worth most for what was said last. Chunks keep their media times,
    so what was dropped stays a hole of the right length in the speaker's timeline.

    Args:
        limit_s: Most seconds of audio that wait.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        """Most seconds that wait; a lower one takes effect with the next audio."""
        self._chunks: deque[AudioChunk] = deque()
        self._samples = 0
        self._rate = 1

    def __bool__(self) -> bool:
        return bool(self._chunks)

    @property
    def held_s(self) -> float:
        """Seconds that wait."""
        return self._samples / self._rate

    def put(self, chunk: AudioChunk) -> float:
        """Add the newest audio.

        Returns:
            Seconds of the oldest audio that were dropped for it.
        """
        self._chunks.append(chunk)
        return self._added(chunk)

    def put_back(self, chunk: AudioChunk) -> float:
        """Undo `take`; returns as `put` does."""
        self._chunks.appendleft(chunk)
        return self._added(chunk)

    def take(self) -> AudioChunk:
        """Take out the oldest audio.

        Raises:
            IndexError: If there is none.
        """
        chunk = self._chunks.popleft()
        self._samples -= len(chunk.samples)
        return chunk

    def clear(self) -> float:
        """Drop everything; returns seconds."""
        dropped, self._samples = self._samples, 0
        self._chunks.clear()
        return dropped / self._rate

    def _added(self, chunk: AudioChunk) -> float:
        self._samples += len(chunk.samples)
        self._rate = chunk.sample_rate
        dropped = 0
        while self._samples > self.limit_s * self._rate:
            dropped += len(self.take().samples)
        return dropped / self._rate
