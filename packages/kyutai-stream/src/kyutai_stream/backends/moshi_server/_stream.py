# SPDX-License-Identifier: MIT
"""What a stream of moshi-server's messages means: no await, no clock.

**Position.** Each `Step` stands for one frame of this stream, in the order of the
frames; the server's own step index counts all streams and is never used.

**Reset.** `Init` waits in line behind the audio sent before it, and the model loop
answers `Ready` when it takes it, after the last `Step` of that audio. So `Ready`
divides the epochs exactly: what is sent after `Init` is counted for the next epoch
at once, what is received before `Ready` still for the old one.

**Flush.** The session feeds the silence that brings the last words out. A flush is
confirmed when the steps have covered everything sent before it and the words of the
last step had a moment to follow (they are messages of their own, after the step).
Without usable steps it is confirmed by the echo of a marker, which comes only if
somebody feeds audio, or when a server that keeps up must be done.

Source: rust/moshi-server/src/batched_asr.rs, release 0.6.4: one loop takes `Init`,
processes, and sends steps, words and markers in this order.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import assert_never

from attrs import define, frozen

from ...backend import (
    ConnectionEvent,
    Flushed,
    Pause,
    Progress,
    WasReset,
    Word,
    WordEnd,
)
from ...core import FRAME_S
from ...errors import ConnectionLost, KyutaiStreamError, ProtocolError
from ...wire import moshi
from ...wire._novelty import Novelties
from .._websocket import Ended

__all__ = ["HORIZONS_S", "MoshiStream", "Profile"]

logger = logging.getLogger("kyutai_stream.backends.moshi_server")

HORIZONS_S = (0.5, 1.0, 2.0, 3.0)
"""Of the four pause heads of stt-1b-en_fr."""

WORDS_FOLLOW_S = 0.05
"""The words of a step come as messages of their own: delayed acknowledgements of
TCP may hold them back 40 ms."""

STALL_S = 10.0
"""A server that owes steps for a flush and sends none for so long is dead."""

MARGIN_S = 0.5
"""Without steps: added to the time that a server at real-time speed needs."""


@frozen(kw_only=True)
class Profile:
    """What to expect of one kind of server and model."""

    steps: bool
    """Whether a `Step` stands for one frame of this stream."""
    markers: bool
    """Whether markers may be sent."""
    late_s: float = 0.0
    """How much too late its times are."""


@define(eq=False)
class _Epoch:
    sent: int = 0
    processed: int = 0
    words: int = 0
    open_word: int | None = None


@define(kw_only=True, eq=False)
class _Flush:
    token: int
    marker: int
    epoch: _Epoch
    frames: int
    due: float = math.inf
    covered: bool = False
    """Whether only the words that follow the last step are awaited."""


class MoshiStream:
    """Turns messages into events; `_websocket.Machine`."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._events: list[ConnectionEvent] = []
        # The first is being heard, the last is being sent.
        self._epochs = deque([_Epoch()])
        self._flushes: deque[_Flush] = deque()
        self._markers = 0
        self._busy_until = -math.inf
        self._reset_due = math.inf
        self._stepped = False
        self._novelties = Novelties(logger, "moshi-server")

    # -- act ---------------------------------------------------------------------

    def sent(self, now: float) -> None:
        """Note one frame; called before it is written."""
        self._epochs[-1].sent += 1
        self._busy_until = max(self._busy_until, now) + FRAME_S

    def flush(self, token: int, now: float) -> bytes | None:
        """Begin to wait for everything sent so far.

        Returns:
            A message to send, if one helps.
        """
        epoch = self._epochs[-1]
        self._markers += 1
        flush = _Flush(
            token=token, marker=self._markers, epoch=epoch, frames=epoch.sent
        )
        self._flushes.append(flush)
        self._look(flush, now)
        if self._profile.steps or not self._profile.markers:
            return None
        return moshi.encode_marker(flush.marker)

    def reset(self, now: float) -> bytes:
        """Begin the next epoch with the next frame.

        Returns:
            The message to send.
        """
        self._epochs.append(_Epoch())
        self._reset_due = now + STALL_S
        return moshi.INIT

    # -- receive -----------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When `tick` is due next; infinite for never."""
        if not self._flushes:
            return self._reset_due
        return min(self._reset_due, *(flush.due for flush in self._flushes))

    def receive(self, message: bytes | str, now: float) -> None:
        """Take one message.

        Raises:
            ProtocolError: If it cannot be understood.
            ConnectionLost: If the server gives up or began anew by itself.
        """
        decoded = moshi.decode(message)
        match decoded:
            case moshi.Step():
                self._step(decoded, now)
            case moshi.Word():
                self._word(decoded)
                self._postpone(now)
            case moshi.EndWord():
                self._word_end(decoded)
                self._postpone(now)
            case moshi.Marker():
                self._marker(decoded.marker_id)
            case moshi.Ready():
                self._ready(now)
            case moshi.Error():
                raise ConnectionLost("moshi-server reported an error and gave up")
            case moshi.Unknown():
                self._novelties.say(decoded.kind)
            case _:
                assert_never(decoded)

    def tick(self, now: float) -> None:
        """Confirm what is due.

        Raises:
            ConnectionLost: If steps that are owed do not come.
        """
        while self._flushes and self._flushes[0].due <= now:
            if not self._flushes[0].covered:
                raise ConnectionLost(self._stalled())
            self._confirm()
        if self._reset_due <= now:
            raise ConnectionLost(self._stalled())

    def ended(self, end: Ended, now: float) -> KyutaiStreamError:
        """Say what the end of the connection means."""
        return end.as_error()

    # -- collect -----------------------------------------------------------------

    def events(self) -> list[ConnectionEvent]:
        """Take what came up since the last call."""
        events, self._events = self._events, []
        return events

    def _step(self, step: moshi.Step, now: float) -> None:
        if not self._profile.steps:
            return
        epoch = self._epochs[0]
        self._stepped = True
        # The words of the step before have come.
        while self._flushes and self._flushes[0].covered:
            self._confirm()
        if epoch.processed == epoch.sent:
            raise ProtocolError(
                "moshi-server reports more steps than it was sent frames: a module "
                "of type PyBatchedAsr needs the setting python_server"
            )
        epoch.processed += 1
        lag = epoch.sent - epoch.processed
        self._events.append(Progress(frames_processed=epoch.processed, lag_frames=lag))
        if len(step.prs) == len(HORIZONS_S):
            pause = Pause(probabilities=step.prs, horizons_s=HORIZONS_S)
            self._events.append(pause)
        if len(self._epochs) > 1:
            self._reset_due = now + STALL_S
        for flush in self._flushes:
            self._look(flush, now)

    def _look(self, flush: _Flush, now: float) -> None:
        """Whether a flush is covered, and when it is due."""
        if flush.epoch is not self._epochs[0]:
            flush.due = now + STALL_S
        elif self._profile.steps:
            flush.covered = flush.epoch.processed >= flush.frames
            flush.due = now + (WORDS_FOLLOW_S if flush.covered else STALL_S)
        else:
            flush.covered = True
            flush.due = max(self._busy_until, now) + MARGIN_S

    def _word(self, word: moshi.Word) -> None:
        epoch = self._epochs[0]
        text = " ".join(word.text.split())
        epoch.open_word = None
        if not text:
            return
        epoch.open_word = epoch.words
        epoch.words += 1
        start = self._position(word.start_s)
        self._events.append(Word(index=epoch.open_word, text=text, start=start))

    def _word_end(self, word_end: moshi.EndWord) -> None:
        epoch = self._epochs[0]
        if epoch.open_word is not None:
            end = self._position(word_end.stop_s)
            self._events.append(WordEnd(index=epoch.open_word, end=end))
            epoch.open_word = None

    def _position(self, seconds: float) -> float:
        return max(0.0, seconds - self._profile.late_s)

    def _postpone(self, now: float) -> None:
        """A word came: more may, where only time tells."""
        if not self._profile.steps:
            for flush in self._flushes:
                flush.due = max(flush.due, now + MARGIN_S)

    def _marker(self, marker: int) -> None:
        # Markers are echoed in order: the earlier flushes are done as well.
        while self._flushes and self._flushes[0].marker <= marker:
            self._confirm()

    def _ready(self, now: float) -> None:
        if len(self._epochs) == 1:
            # Times would restart unnoticed; a new connection is replayed properly.
            raise ConnectionLost("moshi-server began anew without being asked")
        epoch = self._epochs.popleft()
        while self._flushes and self._flushes[0].epoch is epoch:
            self._confirm()
        if len(self._epochs) == 1:
            self._reset_due = math.inf
        self._events.append(WasReset())
        for flush in self._flushes:
            self._look(flush, now)

    def _confirm(self) -> None:
        self._events.append(Flushed(token=self._flushes.popleft().token))

    def _stalled(self) -> str:
        if self._stepped:
            return f"moshi-server made no step for {STALL_S:g} s"
        return (
            f"moshi-server made no step within {STALL_S:g} s: its model loop is dead, "
            "or the model has no pause heads (set model='stt-2.6b-en')"
        )
