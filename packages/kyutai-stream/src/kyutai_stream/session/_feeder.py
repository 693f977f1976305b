# SPDX-License-Identifier: MIT
"""What goes to the recogniser, in which order: audio, silence, flushes.

No await, no clock. Live audio lies in the ring; from there it is cut into frames,
with silence put in where the recogniser needs some. Every sample that goes out is
noted on the timeline map, so that the recogniser's times can be read.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from ..backend import Capabilities
from ..core import (
    FRAME_S,
    FRAME_SAMPLES,
    SAMPLE_RATE,
    AudioRing,
    Framer,
    Piece,
    SpanKind,
    TimelineMap,
)
from ._actions import AskFlush, Send
from ._marks import Marks
from .metrics import Meter
from .options import SessionOptions

Samples = npt.NDArray[np.float32]

JITTER_S = 0.02
"""Jumps of media time up to this need no silence: a packet's length."""

FLUSH_FRAMES = 3
"""Frames of silence beyond the recogniser's delay that bring the last word out."""

SETTLING_S = 1.0
"""Quiet audio beyond the recogniser's delay after which no word is due any more."""

CATCH_UP_S = 2.0
"""With more waiting than this, quiet stretches are shortened."""

QUIET_KEPT = SAMPLE_RATE // 4
"""Samples that are always sent at both ends of a quiet stretch."""


class Feeder:
    """Turns the ring into what is sent on one connection after the other."""

    def __init__(self, options: SessionOptions, meter: Meter) -> None:
        self._options = options
        self._meter = meter
        self._capabilities = Capabilities()
        self._framer = Framer()
        self._out: deque[Send | AskFlush] = deque()
        self._token = 0
        self._fed_silence_s = 0.0
        self._loud_s = 0.0
        self._skipped = False
        self._has_fed = False
        """Whether audio of the caller went out in this epoch."""
        self._again_until = 0
        """Position up to which audio was sent before."""
        self.lead_samples = 0
        """Silence fed before audio that follows a flush: the resampler's lag, so that
        frames fill with the packet that ends them and not with the one after."""
        self.ring = AudioRing()
        self.marks = Marks(self.ring)
        """Where somebody waits for words."""
        self.map = TimelineMap()
        self._sounded = False
        """Whether sound went out since the last flush."""
        self.touched = False
        """Whether any audio went out since the last flush."""
        self.quiet_s = 0.0
        """Seconds of quiet audio and silence since the last sound went out."""

    # -- epochs ------------------------------------------------------------------------

    def begin(self, capabilities: Capabilities) -> None:
        """Begin a new connection or a reset one; the cursor stays where it is."""
        self._capabilities = capabilities
        self._framer = Framer()
        self._out.clear()
        self.map = TimelineMap()
        self._fed_silence_s = 0.0
        self._skipped = self._has_fed = False
        self._sounded = self.touched = False
        self.quiet_s = self._loud_s = 0.0
        self.marks.forget_flushes()
        self._own_audio(self.ring.media_at_cursor())

    def rewind(self, media_time: float) -> None:
        """Go back, so that audio from there on is sent (again)."""
        self._again_until = max(self._again_until, self.ring.cursor)
        self.ring.rewind(media_time)

    @property
    def unflushed(self) -> bool:
        """Whether words may still be in the recogniser that need more audio."""
        delay_s = self._capabilities.nominal_delay_s
        return self._sounded and self.quiet_s < delay_s + SETTLING_S

    def give_up(self, samples: int) -> tuple[float, float]:
        """Skip waiting audio for good; returns its begin and end, media seconds."""
        self._skipped = True
        return self.ring.skip(samples)

    @property
    def brings_news(self) -> bool:
        """Whether audio goes out that never did before, and more of it waits."""
        return self.ring.waiting > 0 and self.ring.cursor > self._again_until

    @property
    def frame_is_complete(self) -> bool:
        """Whether what waits makes a frame."""
        return self.ring.waiting + self._framer.pending >= FRAME_SAMPLES

    # -- out ---------------------------------------------------------------------------

    @property
    def next_out(self) -> Send | AskFlush | None:
        """What is to go out next; `pop` takes it."""
        return self._out[0] if self._out else None

    def pop(self) -> None:
        """Take what `next_out` shows."""
        self._out.popleft()

    def pull(self) -> bool:
        """Cut the next frame or do what a mark asks; False if nothing is to do."""
        while True:
            mark = self.marks.unasked
            if mark is not None and mark.position <= self.ring.cursor:
                mark.token = self.flush()
                return True
            self._shorten_quiet()
            limit = FRAME_SAMPLES - self._framer.pending
            if mark is not None:
                limit = min(limit, mark.position - self.ring.cursor)
            if self.ring.cursor < self._again_until:
                limit = min(limit, self._again_until - self.ring.cursor)
            if limit == 0:
                # Quiet audio was skipped up to the mark.
                continue
            piece = self.ring.take(limit)
            if piece is None:
                return False
            before = len(self._out)
            self._place(piece)
            if len(self._out) > before:
                return True

    def join_flush(self) -> None:
        """Let marks that are reached wait for the flush asked for last."""
        self.marks.join(self._token)

    def take_loud(self) -> float:
        """Seconds of sound that went into frames since the last call."""
        loud_s, self._loud_s = self._loud_s, 0.0
        return loud_s

    def flush(self) -> int:
        """Bring out the last words: silence as needed, then the question.

        Returns:
            The token of the flush.
        """
        extra = 0 if self._capabilities.self_flushing else self._flush_silence()
        self._silence(self._framer.padding + extra * FRAME_SAMPLES)
        self._sounded = self.touched = False
        self._token += 1
        self._out.append(AskFlush(token=self._token))
        return self._token

    # -- inside ------------------------------------------------------------------------

    def _flush_silence(self) -> int:
        delay_s = self._capabilities.nominal_delay_s
        return math.ceil(delay_s / FRAME_S) + FLUSH_FRAMES if delay_s > 0 else 0

    def _place(self, piece: Piece) -> None:
        samples = len(piece.samples)
        seconds = samples / SAMPLE_RATE
        jump = piece.media_time - self.map.media_time(self.map.samples / SAMPLE_RATE)
        if jump > JITTER_S and self._has_fed and not self._skipped:
            wanted = min(jump, self._options.gap_silence_s) - self._fed_silence_s
            self._silence(round(wanted * SAMPLE_RATE))
        own_ends = self._capabilities.endpointing
        # A detector of its own judges the very first sound: it gets audio as it is.
        if not (self._framer.pending or self.touched or own_ends):
            self._lead_in(np.zeros(self.lead_samples, np.float32), piece.media_time)
        again = piece.position < self._again_until
        kind = SpanKind.REPLAY if again else SpanKind.LIVE
        self.map.append(samples, kind=kind, media_time=piece.media_time)
        self._fed_silence_s = 0.0
        self._skipped = False
        self._has_fed = True
        self.touched = True
        if again:
            self._meter.replayed_s += seconds
        if piece.quiet:
            self.quiet_s += seconds
        else:
            self.quiet_s = 0.0
            self._loud_s += seconds
            self._sounded = True
        self._put(piece.samples)

    def _shorten_quiet(self) -> None:
        """Skip the middle of a long quiet stretch while there is a backlog."""
        if self.ring.waiting_s < CATCH_UP_S:
            return
        if self.quiet_s * SAMPLE_RATE < QUIET_KEPT:
            return
        ahead = self.ring.quiet_run()
        # Never up to the end of the run: the first sounds keep their surroundings.
        spare = ahead - QUIET_KEPT
        to_mark = self.marks.samples_ahead
        if to_mark is not None:
            spare = min(spare, to_mark)
        if spare < FRAME_SAMPLES:
            return
        self.ring.skip(spare)
        self._skipped = True
        self._meter.skipped_quiet_s += spare / SAMPLE_RATE

    def _silence(self, count: int) -> None:
        if count <= 0:
            return
        self.map.append(count, kind=SpanKind.SILENCE)
        seconds = count / SAMPLE_RATE
        self._fed_silence_s += seconds
        self.quiet_s += seconds
        self._meter.silence_s += seconds
        self._put(np.zeros(count, dtype=np.float32))

    def _own_audio(self, media_time: float) -> None:
        """Feed what has to come first: silence, or speech in the right language.

        Only the speech itself is marked as not the caller's: recognisers date words
        a step early, and the first live one must not fall under it.
        """
        prefix = math.ceil(self._capabilities.silence_prefix_s / FRAME_S)
        self._lead_in(np.zeros(prefix * FRAME_SAMPLES, np.float32), media_time)
        prime = self._options.prime_audio
        if prime is None or not len(prime):
            return
        self._lead_in(prime.astype(np.float32), media_time, SpanKind.PRIME)
        tail = self._framer.padding + self._flush_silence() * FRAME_SAMPLES
        self._lead_in(np.zeros(tail, np.float32), media_time)

    def _lead_in(
        self,
        samples: Samples,
        media_time: float,
        kind: SpanKind = SpanKind.SILENCE,
    ) -> None:
        self.map.append(len(samples), kind=kind, media_time=media_time)
        self._meter.silence_s += len(samples) / SAMPLE_RATE
        self._put(samples)

    def _put(self, samples: Samples) -> None:
        self._out.extend(Send(frame=frame) for frame in self._framer.push(samples))
