# SPDX-License-Identifier: MIT
"""One stream in its slot: its queues, its re-framing buffer, what became of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ._stream import WordStream
from ._wire import Inbound, Init, Outbound
from .options import FRAME_SAMPLES, ConnectionPlan

__all__ = ["Channel", "Samples"]

Samples = npt.NDArray[np.float32]


class _Buffer:
    """The re-framing buffer of a channel; only what a message left over stays."""

    def __init__(self) -> None:
        self._parts: deque[Samples] = deque()
        self.length = 0

    def add(self, samples: Samples) -> None:
        if len(samples):
            self._parts.append(samples)
            self.length += len(samples)

    def take_frame(self) -> Samples | None:
        if self.length < FRAME_SAMPLES:
            return None
        self.length -= FRAME_SAMPLES
        if len(self._parts[0]) == FRAME_SAMPLES:
            return self._parts.popleft()
        got, frame = 0, []
        while got < FRAME_SAMPLES:
            part = self._parts.popleft()
            if got + len(part) > FRAME_SAMPLES:
                cut = FRAME_SAMPLES - got
                self._parts.appendleft(part[cut:])
                part = part[:cut]
            frame.append(part)
            got += len(part)
        return np.concatenate(frame)


class Channel:
    """One stream in its slot.

    Args:
        number: Counts the connections of the server, from 0.
        slot: Index in the batch.
        plan: Faults of the connection.
        serve_from: Loop time from which the model loop looks at it.
        new_stream: Makes the recogniser's part; the argument says whether the
            stream was reset before.
    """

    def __init__(
        self,
        number: int,
        slot: int,
        plan: ConnectionPlan,
        serve_from: float,
        new_stream: Callable[[bool], WordStream],
    ) -> None:
        self.number = number
        self.slot = slot
        self.plan = plan
        self.serve_from = serve_from
        self.inbox: deque[Inbound] = deque([Init()])
        """Messages that wait for the model loop. Unbounded, as the server's."""
        self.outbox: deque[Outbound] = deque()
        """Messages to be sent. Unbounded, as the server's."""
        self.input_ended = False
        """The receiving half is gone; what is in the inbox is still processed."""
        self.output_broken = False
        """The sending half is gone; the slot is freed at the next turn."""
        self.freed = False
        """The model loop has let go of it: no more output, the socket is closed."""
        self.steps = 0
        """Frames processed."""
        self.resets = -1
        """Explicit Inits taken; the server's own one is not counted."""
        self.words: WordStream = new_stream(False)
        self._new_stream = new_stream
        self._buffer = _Buffer()
        self._silence_left = 0

    @property
    def buffered(self) -> int:
        """Samples in the re-framing buffer."""
        return self._buffer.length

    def reset(self) -> None:
        """Begin a new stream; buffered samples stay."""
        self.resets += 1
        if self.resets:
            self.words = self._new_stream(True)

    def take_audio(self, samples: Samples) -> Samples | None:
        """Add audio; returns a frame if one is complete."""
        self._buffer.add(samples)
        return self._buffer.take_frame()

    def feed_silence(self, frames: int) -> None:
        """Let the model make steps on its own (`PyBatchedAsr` after a Marker)."""
        self._silence_left = frames

    def own_silence(self) -> Samples | None:
        """A frame of that silence, if one is due."""
        if self._silence_left <= 0:
            return None
        self._silence_left -= 1
        return np.zeros(FRAME_SAMPLES, dtype=np.float32)

    def send(self, message: Outbound) -> None:
        """Queue a message unless the slot was freed."""
        if not self.freed:
            self.outbox.append(message)
