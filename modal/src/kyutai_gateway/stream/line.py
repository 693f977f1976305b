# SPDX-License-Identifier: MIT
"""The way of the audio to the model: what waits, what is on its way, what is done.

The queue holds exact frames and marks (flush, reset, end), so that a mark is reached
when all audio before it has gone. For every frame it is known how many of its
samples are the client's: silence that the gateway adds never counts in `samples`,
`lag` or any time (decisions.md).
"""

from __future__ import annotations

import enum
from collections import deque

import numpy as np
from attrs import define, frozen

from kyutai_stream import Capabilities
from kyutai_stream.backend import Frame
from kyutai_stream.core import (
    FRAME_S,
    FRAME_SAMPLES,
    SendWindow,
    SpanKind,
    TimelineMap,
)

from .rules import StreamRules

__all__ = ["KEEPALIVE", "RESET", "Action", "FlushRequest", "Line", "Mark", "MarkKind"]

SILENCE: Frame = np.zeros(FRAME_SAMPLES, dtype=np.float32)

EXTRA_FRAMES = 3
"""Silence behind the model's delay for the pieces of the last word and its end."""


class MarkKind(enum.Enum):
    """What is to be done when the audio before it has gone."""

    FLUSH = "flush"
    RESET = "reset"
    EOS = "eos"
    DRAINED = "drained"


@frozen(kw_only=True)
class Mark:
    """A place in the stream."""

    kind: MarkKind
    """What it stands for."""
    id: int | None = None
    """The client's number."""


@frozen(kw_only=True)
class FlushRequest:
    """Ask upstream to confirm that all audio so far is done."""

    token: int
    """Comes back in `Flushed`."""


class Order(enum.Enum):
    """Things to do upstream that need no more words."""

    RESET = "reset"
    KEEPALIVE = "keepalive"


RESET = Order.RESET
KEEPALIVE = Order.KEEPALIVE

Action = Frame | FlushRequest | Order
"""What the shell does upstream next; a frame is sent."""


@define(eq=False)
class _Epoch:
    number: int
    timeline: TimelineMap
    flying: deque[tuple[int, float]]
    """Of each frame on its way: the client's samples in it, and when it went."""
    processed: int = 0
    """Frames."""
    unmapped: int = 0
    """Samples of the client that went last and are not in the timeline yet."""

    def map(self) -> None:
        """Bring the timeline up to date: only words and silence need it."""
        self.timeline.append(self.unmapped, kind=SpanKind.LIVE)
        self.unmapped = 0


class Line:
    """Frames and marks in, actions out, steps counted.

    Args:
        rules: Window, queue length.
        capabilities: Of the model, as known before it was connected.
    """

    def __init__(self, rules: StreamRules, capabilities: Capabilities) -> None:
        self._rules = rules
        self.queue: deque[tuple[Frame, int] | Mark] = deque()
        """What waits: frames, with their samples of the client, and marks."""
        self._pending: deque[tuple[int, Mark]] = deque()
        self._resets: deque[int | None] = deque()
        self._tokens = 0
        # The first is being heard, the last is being sent.
        self._epochs = deque([_new_epoch(0)])
        self._untouched = True
        self.epoch = 0
        """Number of the epoch that is being heard."""
        self.samples = 0
        """Samples of the client in this epoch that were processed."""
        self.received = 0
        """Samples of the client in whole frames, queued or gone."""
        self.processed = 0
        """Samples of the client that the model has processed, in all epochs."""
        self.in_flight = 0
        """Frames sent and not processed, in all epochs."""
        self.retry_at: float | None = None
        """When the window may have opened by time alone."""
        self.begin(capabilities)

    def begin(self, capabilities: Capabilities) -> None:
        """Take what the connected model can do."""
        self._acks = capabilities.acks
        self._flush_frames = (
            round(capabilities.nominal_delay_s / FRAME_S) + EXTRA_FRAMES
        )
        self._prefix_frames = round(capabilities.silence_prefix_s / FRAME_S)
        # Only where nothing is acknowledged.
        self._pace = SendWindow(acks=False, window=1, speed=self._rules.speed)

    def connected(self, capabilities: Capabilities) -> None:
        """Begin with the model's connection: some want to hear silence first."""
        self.begin(capabilities)
        self.queue.extendleft([(SILENCE, 0)] * self._prefix_frames)

    # -- from the client -----------------------------------------------------------

    def push(self, frame: Frame, own: int = FRAME_SAMPLES) -> None:
        """Queue a frame of which the first `own` samples are the client's."""
        self.queue.append((frame, own))
        self.received += own
        self._untouched = False

    def mark(self, mark: Mark) -> None:
        """Queue a mark, and before it the silence that brings the last words out.

        No silence is added where no audio came since the last mark.
        """
        if not self._untouched:
            self.queue.extend([(SILENCE, 0)] * self._flush_frames)
            self._untouched = True
        self.queue.append(mark)

    # -- to the model --------------------------------------------------------------

    def next(self, now: float) -> Action | None:
        """Take what is to be done upstream now; None for nothing yet.

        Only while there is a queue.
        """
        self.retry_at = None
        entry = self.queue[0]
        if isinstance(entry, Mark):
            self.queue.popleft()
            return self._reached(entry)
        epoch = self._epochs[-1]
        frame, own = entry
        if self._acks:
            if self.in_flight >= self._rules.window_frames:
                return None
            self.in_flight += 1
            epoch.flying.append((own, now))
        elif not self._in_pace(now):
            return None
        self.queue.popleft()
        epoch.unmapped += own
        if own < FRAME_SAMPLES:
            epoch.map()
            epoch.timeline.append(FRAME_SAMPLES - own, kind=SpanKind.SILENCE)
        return frame

    def _in_pace(self, now: float) -> bool:
        wait_s = self._pace.wait_s(0, now)
        if wait_s:
            self.retry_at = now + wait_s
            return False
        self._pace.sent()
        return True

    def _reached(self, mark: Mark) -> Action:
        if mark.kind is MarkKind.RESET:
            self._resets.append(mark.id)
            self._epochs.append(_new_epoch(self._epochs[-1].number + 1))
            self.queue.extendleft([(SILENCE, 0)] * self._prefix_frames)
            return RESET
        self._tokens += 1
        self._pending.append((self._tokens, mark))
        return FlushRequest(token=self._tokens)

    # -- from the model ------------------------------------------------------------

    def step(self, frames_processed: int) -> float | None:
        """Note that so many frames of this epoch are done.

        Returns:
            When the last of them was sent; None if none is new.
        """
        epoch = self._epochs[0]
        sent_at = None
        while epoch.processed < frames_processed and epoch.flying:
            own, sent_at = epoch.flying.popleft()
            epoch.processed += 1
            self.samples += own
            self.processed += own
            self.in_flight -= 1
        return sent_at

    def client_s(self, stream_s: float) -> float:
        """Seconds of the client's audio for a time of the model, in this epoch."""
        epoch = self._epochs[0]
        epoch.map()
        return epoch.timeline.media_time(stream_s)

    def flushed(self, token: int) -> list[Mark]:
        """Take the marks that a confirmation covers, in order."""
        done = []
        while self._pending and self._pending[0][0] <= token:
            done.append(self._pending.popleft()[1])
        return done

    def was_reset(self) -> int | None:
        """Go on to the next epoch; returns the client's number for the reset."""
        gone = self._epochs.popleft()
        self.in_flight -= len(gone.flying)
        self.epoch, self.samples = self._epochs[0].number, 0
        return self._resets.popleft()

    @property
    def expects_reset(self) -> bool:
        """Whether a reset was asked for and not confirmed."""
        return bool(self._resets)


def _new_epoch(number: int) -> _Epoch:
    return _Epoch(number=number, timeline=TimelineMap(), flying=deque())
