# SPDX-License-Identifier: MIT
"""The audio of one speaker that is not yet settled: waiting, sent, or to be resent.

One store serves every case: audio that waits for a slow or starting server, audio
that was sent and may have to be sent again, and the pre-roll of a speaker who was
silent. A cursor divides it: before it lies what was handed out, behind it what
waits. After a lost connection the cursor simply moves back.

Positions count admitted samples since the session began and never restart.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen

from .framing import FRAME_SAMPLES, SAMPLE_RATE

__all__ = ["AudioRing", "Piece"]

Samples = npt.NDArray[np.float32]

JITTER_S = 0.02
"""Media times this far from the expected ones continue a block: a packet's length."""

QUIET_DBFS = -60.0
"""Blocks below this level hold no speech: the noise of an open microphone is louder."""

PROBE = SAMPLE_RATE // 50
"""Window, 20 ms, in which a quiet point is looked for."""

SOFTER = 0.01
"""A window 20 dB below the loudest one before lies behind the end of a sound."""


@frozen(kw_only=True)
class Piece:
    """A stretch of audio in one straight relation to media time."""

    position: int
    """Of the first sample, counted over everything admitted."""
    media_time: float
    """Media seconds of the first sample."""
    samples: Samples = field(repr=False)
    """Mono PCM, float32, shape `(n,)`, 24 000 Hz; shares the ring's memory."""
    arrived: float
    """When its last sample was admitted, on the caller's monotonic clock."""
    quiet: bool
    """Whether nothing in its block could be speech."""


@define(eq=False, kw_only=True)
class _Block:
    position: int
    media_time: float
    samples: Samples = field(repr=False)
    length: int = 0
    arrived: float = 0.0
    energy: float = 0.0

    @property
    def end(self) -> int:
        return self.position + self.length

    @property
    def media_end(self) -> float:
        return self.media_time + self.length / SAMPLE_RATE

    @property
    def quiet(self) -> bool:
        return self.energy < self.length * 10 ** (QUIET_DBFS / 10)


class AudioRing:
    """Audio in order of media time, in blocks of at most 80 ms."""

    def __init__(self) -> None:
        self._blocks: deque[_Block] = deque()
        self._next = 0
        """Index in `_blocks` of the block under the cursor."""
        self.cursor = 0
        """Position of the next sample to hand out."""
        self.end = 0
        """Position after the last sample admitted."""
        self.forgotten_until = -math.inf
        """Media seconds up to which audio is no longer held."""

    @property
    def waiting(self) -> int:
        """Samples behind the cursor."""
        return self.end - self.cursor

    @property
    def waiting_s(self) -> float:
        """Seconds behind the cursor."""
        return self.waiting / SAMPLE_RATE

    @property
    def held(self) -> int:
        """Samples in memory."""
        return self.end - self._blocks[0].position if self._blocks else 0

    # -- in and out ----------------------------------------------------------------

    def append(self, samples: Samples, media_time: float, now: float) -> bool:
        """Admit audio; it is copied.

        Args:
            samples: Mono PCM, float32, shape `(n,)`, 24 000 Hz.
            media_time: Media seconds of the first sample; not before the end of
                what was admitted last (the caller sees to that).
            now: Monotonic seconds.

        Returns:
            Whether some of it could be speech.
        """
        done = 0
        loud = False
        while done < len(samples):
            block = self._open_block(media_time + done / SAMPLE_RATE)
            part = samples[done : done + FRAME_SAMPLES - block.length]
            block.samples[block.length : block.length + len(part)] = part
            block.length += len(part)
            block.energy += float(np.dot(part, part))
            block.arrived = now
            loud = loud or not block.quiet
            done += len(part)
            self.end += len(part)
        return loud

    def take(self, limit: int) -> Piece | None:
        """Hand out at most `limit` samples and move the cursor; None if none wait."""
        piece = self.peek(limit)
        if piece is not None:
            self._advance(len(piece.samples))
        return piece

    def peek(self, limit: int = FRAME_SAMPLES) -> Piece | None:
        """Return what `take` would; the cursor stays."""
        if self.cursor >= self.end:
            return None
        self._settle_cursor()
        block = self._blocks[self._next]
        offset = self.cursor - block.position
        return Piece(
            position=self.cursor,
            media_time=block.media_time + offset / SAMPLE_RATE,
            samples=block.samples[offset : min(block.length, offset + limit)],
            arrived=block.arrived,
            quiet=block.quiet,
        )

    # -- the cursor ----------------------------------------------------------------

    def rewind(self, media_time: float) -> int:
        """Move the cursor back to a media time, or to the oldest audio held.

        Returns:
            Samples by which it moved; 0 if it was there or before already.
        """
        before = self.cursor
        for index, block in enumerate(self._blocks):
            if block.position >= before:
                break
            if block.media_end <= media_time:
                continue
            inside_s = max(0.0, media_time - block.media_time)
            target = block.position + min(round(inside_s * SAMPLE_RATE), block.length)
            if target < before:
                self._next, self.cursor = index, target
                self._settle_cursor()
            break
        return before - self.cursor

    def skip(self, samples: int) -> tuple[float, float]:
        """Move the cursor on without handing out.

        Returns:
            Media seconds where the skipped stretch begins and ends.
        """
        first = self.peek()
        if first is None:
            raise AssertionError("nothing waits, nothing can be skipped")
        end = first.media_time
        left = min(samples, self.waiting)
        while left > 0:
            block = self._blocks[self._next]
            step = min(left, block.end - self.cursor)
            end = block.media_time + (self.cursor - block.position + step) / SAMPLE_RATE
            self._advance(step)
            left -= step
        return first.media_time, end

    def release(self, media_time: float) -> None:
        """Forget whole blocks that end before a media time and before the cursor."""
        blocks = self._blocks
        while blocks and blocks[0].end <= self.cursor:
            # The last one is kept: it says where media time stands.
            if len(blocks) == 1 or blocks[0].media_end > media_time:
                break
            self.forgotten_until = blocks.popleft().media_end
            self._next = max(0, self._next - 1)

    # -- looking -------------------------------------------------------------------

    def quiet_run(self) -> int:
        """Samples from the cursor on that surely hold no speech."""
        count = 0
        for block in self._from_cursor():
            if not block.quiet:
                break
            count += max(0, block.end - max(self.cursor, block.position))
        return count

    def quiet_point(self, media_time: float, reach_s: float) -> float:
        """Find the quietest 20 ms at or up to `reach_s` before a media time.

        Returns:
            Media seconds of its middle; the given time if nothing is held there.
        """
        best, found = math.inf, media_time
        for at, energy in self._probes(media_time - reach_s, media_time):
            # The latest of equally quiet ones: less to send again.
            if energy <= best:
                best, found = energy, at + PROBE / 2 / SAMPLE_RATE
        return found

    def sound_end(self, media_time: float, reach_s: float) -> float:
        """Find where the sound at a media time ends.

        Returns:
            Media seconds of the first 20 ms, from there to `reach_s` later, that are
            much softer than what came before; the given time if there are none.
        """
        loudest = 0.0
        for at, energy in self._probes(media_time, media_time + reach_s):
            loudest = max(loudest, energy)
            if energy <= loudest * SOFTER or energy < PROBE * 10 ** (QUIET_DBFS / 10):
                return max(at, media_time)
        return media_time

    def sound_start(self, media_time: float, reach_s: float) -> float:
        """Find where the sound at a media time begins; the reverse of `sound_end`."""
        loudest = 0.0
        probes = self._probes(media_time - reach_s, media_time)
        for at, energy in reversed(list(probes)):
            loudest = max(loudest, energy)
            if energy <= loudest * SOFTER or energy < PROBE * 10 ** (QUIET_DBFS / 10):
                return min(at + PROBE / SAMPLE_RATE, media_time)
        return media_time

    def media_end(self) -> float:
        """Media seconds after the last sample; 0 when nothing is held."""
        return self._blocks[-1].media_end if self._blocks else 0.0

    def media_at_cursor(self) -> float:
        """Media seconds of the next sample to hand out, or after the last one."""
        piece = self.peek(1)
        return self.media_end() if piece is None else piece.media_time

    # -- inside --------------------------------------------------------------------

    def _open_block(self, media_time: float) -> _Block:
        last = self._blocks[-1] if self._blocks else None
        if last is not None and last.length < FRAME_SAMPLES:
            if abs(media_time - last.media_end) <= JITTER_S:
                return last
            # Closed early, at a jump: gives back what it does not need.
            last.samples = last.samples[: last.length].copy()
        block = _Block(
            position=self.end,
            media_time=max(media_time, last.media_end) if last else media_time,
            samples=np.empty(FRAME_SAMPLES, dtype=np.float32),
        )
        self._blocks.append(block)
        return block

    def _advance(self, count: int) -> None:
        self.cursor += count
        self._settle_cursor()

    def _settle_cursor(self) -> None:
        """Let `_next` name the block that holds the cursor (or the last one)."""
        last = len(self._blocks) - 1
        while self._next < last and self.cursor >= self._blocks[self._next].end:
            self._next += 1

    def _probes(self, since: float, until: float) -> Iterator[tuple[float, float]]:
        """Begin (media seconds) and energy of the 20 ms windows between two times."""
        for block in self._blocks:
            if block.media_end <= since:
                continue
            if block.media_time > until:
                break
            for begin in range(0, block.length - PROBE + 1, PROBE):
                at = block.media_time + begin / SAMPLE_RATE
                if since <= at + PROBE / 2 / SAMPLE_RATE <= until:
                    window = block.samples[begin : begin + PROBE]
                    yield at, float(np.dot(window, window))

    def _from_cursor(self) -> Iterator[_Block]:
        self._settle_cursor()
        return islice(self._blocks, self._next, None)
