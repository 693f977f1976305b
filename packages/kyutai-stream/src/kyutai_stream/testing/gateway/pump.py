# SPDX-License-Identifier: MIT
"""Audio in, steps out, in order and at the model's pace.

The queue between the gateway and its model holds exact frames and marks (flush,
reset, end), so that a mark is reached exactly when the audio before it was
processed. The map from fed audio to the client's audio lives here too: silence
that the gateway injects never counts in times or samples (decisions.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from attrs import define, field, frozen

from ...core import FRAME_SAMPLES, SAMPLE_RATE, Framer
from .model import FakeModel, Frame, ModelStep

__all__ = ["ClientClock", "Mark", "Pump", "Stepped"]

BACKLOG_FRAMES = 1500
"""Frames (2 minutes) after which the gateway stops reading its socket."""


@frozen(kw_only=True)
class Mark:
    """A place in the stream."""

    kind: str
    """`flush`, `reset`, `end`, or whatever the dialect means by it."""
    id: int | None = None
    """The client's number for it."""


@frozen(kw_only=True)
class Stepped:
    """One frame was processed."""

    step: ModelStep
    silence: bool
    """Whether the frame held nothing but injected silence."""


@define
class ClientClock:
    """Maps seconds of fed audio to seconds of the client's audio."""

    fed: int = 0
    """Samples fed to the model."""
    client: int = 0
    """Samples among them that came from the client."""
    # Where silence was injected: (first fed sample, first sample after it).
    _holes: list[tuple[int, int]] = field(factory=list)

    def advance(self, client_samples: int) -> None:
        """Count a frame that began with so many samples of the client."""
        self.client += client_samples
        if client_samples < FRAME_SAMPLES:
            begin, end = self.fed + client_samples, self.fed + FRAME_SAMPLES
            if self._holes and self._holes[-1][1] == begin:
                begin = self._holes.pop()[0]
            self._holes.append((begin, end))
        self.fed += FRAME_SAMPLES

    def client_s(self, fed_s: float) -> float:
        """Return the client's seconds for seconds of fed audio."""
        sample = round(fed_s * SAMPLE_RATE)
        inside = sum(
            min(sample, end) - begin for begin, end in self._holes if begin < sample
        )
        return round((sample - inside) / SAMPLE_RATE, 4)


class Pump:
    """The queue, the model and its pace. Pure: `now` is an argument.

    Args:
        new_model: Makes the model for an epoch (a stream up to its next reset).
        step_s: Seconds one step takes; 0 for as fast as possible.
    """

    def __init__(self, new_model: Callable[[int], FakeModel], *, step_s: float) -> None:
        self._new_model = new_model
        self._step_s = step_s
        self._framer = Framer()
        self._queue: deque[tuple[Frame, int] | Mark] = deque()
        self._free_at = 0.0
        self._since_pad = 0
        self.stopped = False
        """While set, nothing is processed any more (a dead model loop)."""
        self._waiting = 0
        self.samples = 0
        """Samples received."""
        self.epoch = 0
        """Resets so far."""
        self.model = new_model(0)
        self.clock = ClientClock()

    @property
    def frames(self) -> int:
        """Whole frames received."""
        return self.samples // FRAME_SAMPLES

    @property
    def lag(self) -> int:
        """Client samples received and not yet processed."""
        return self._waiting + self._framer.pending

    @property
    def full(self) -> bool:
        """Whether the gateway should not read more for now."""
        return len(self._queue) >= BACKLOG_FRAMES

    def push(self, samples: Frame) -> int:
        """Take samples of the client, float32, shape `(n,)`; returns whole frames.

        What is no audio becomes some.
        """
        self.samples += len(samples)
        frames = self._framer.push(np.clip(np.nan_to_num(samples), -1.0, 1.0))
        self._queue.extend((frame, FRAME_SAMPLES) for frame in frames)
        self._waiting += len(frames) * FRAME_SAMPLES
        self._since_pad += len(samples)
        return len(frames)

    def flush(self, silent_frames: int) -> None:
        """Pad the frame at hand and add frames of silence behind it.

        Adds nothing if no sample came since the last flush.
        """
        if not self._since_pad:
            return
        self._since_pad = 0
        held = self._framer.pending
        if held:
            zeros = np.zeros(self._framer.padding, dtype=np.float32)
            self._queue.append((self._framer.push(zeros)[0], held))
            self._waiting += held
        silence = np.zeros(FRAME_SAMPLES, dtype=np.float32)
        self._queue.extend([(silence, 0)] * silent_frames)

    def mark(self, mark: Mark) -> None:
        """Note a place behind everything so far."""
        self._queue.append(mark)

    def drop_partial(self) -> None:
        """Forget the samples of a frame that is not whole."""
        self._framer = Framer()
        self._since_pad = 0

    def reset(self) -> None:
        """Begin a new epoch: a fresh model, times from 0."""
        self.epoch += 1
        self.model = self._new_model(self.epoch)
        self.clock = ClientClock()

    def wakeup(self) -> float | None:
        """When `next` has something again; None while it has nothing to do."""
        if not self._queue or self.stopped:
            return None
        return self._free_at

    def next(self, now: float) -> Stepped | Mark | None:
        """Process the next frame or reach the next mark, if it is time."""
        if not self._queue or self.stopped or now < self._free_at:
            return None
        entry = self._queue.popleft()
        if isinstance(entry, Mark):
            return entry
        frame, client_samples = entry
        self._waiting -= client_samples
        # A timer that fired a little late must not slow the model down; one that
        # was idle begins its step now.
        late = now - self._free_at
        begun = self._free_at if late < self._step_s else now
        self._free_at = begun + self._step_s
        self.clock.advance(client_samples)
        return Stepped(step=self.model.step(frame), silence=client_samples == 0)
