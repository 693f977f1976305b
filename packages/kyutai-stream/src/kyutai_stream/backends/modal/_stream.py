# SPDX-License-Identifier: MIT
"""What a stream of a gateway's messages means, in any dialect: no await, no clock.

Which dialect a server speaks is seen from what it says. `ready` means protocol 1:
words have numbers and times, acknowledgements count samples, flush and reset are
asked for and confirmed. A server that never says `ready` tells text only, so that

- times are estimates: what was sent, less the delay of the model;
- a flush is confirmed when a server that keeps up with real time must be done.

`vad_end`, and a `final` of its own, are the gateway's decision that the speaker
paused. They become a `Pause` that is certain (probability 1.0 for every horizon);
the session decides what to make of it, as with the probabilities in `ack`.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import assert_never

from attrs import define

from ...backend import (
    ConnectionEvent,
    Draining,
    Flushed,
    Pause,
    Progress,
    WasReset,
    Word,
    WordEnd,
)
from ...core import FRAME_S, FRAME_SAMPLES
from ...errors import ConfigError, ConnectionLost, KyutaiStreamError
from ...wire import gateway
from ...wire._novelty import Novelties
from ...wire.spelling import Speller
from .._websocket import Ended
from ._failures import close_error, message_error
from ._questions import Questions

__all__ = ["GatewayStream"]

logger = logging.getLogger("kyutai_stream.backends.modal")

ONE_HORIZON_S = (2.0,)
"""For a `vad_end` of a server that names no horizons."""

WORD_S = 0.24
"""A word of two pieces comes three steps after the delay; for estimates."""

ALIVE_S = 35.0
"""Protocol 1 says `ping` every 10 s; without any message for so long it is dead."""

REMEMBERED = 8
"""Words whose end may still be told."""


@define(eq=False)
class _Epoch:
    sent: int = 0
    processed: int = 0
    words: int = 0
    last_start: float = 0.0


class GatewayStream:
    """Turns messages into events; `_websocket.Machine`.

    Args:
        delay_s: Delay of the model where the gateway does not tell it, seconds.
        now: Monotonic seconds when the connection was opened.
    """

    def __init__(self, *, delay_s: float, now: float) -> None:
        self.ready: gateway.Ready | None = None
        """What a gateway of protocol 1 said."""
        self.is_older = False
        """Whether it has spoken as only the older dialects do."""
        self.established = False
        """Whether the session works with it; set once it is ready, or by default."""
        self._delay_s = delay_s
        self._opened = now
        self._heard = now
        self._events: list[ConnectionEvent] = []
        # The first is being heard, the last is being sent.
        self._epochs = deque([_Epoch()])
        self._number: int | None = None
        self._ends: dict[int, int] = {}
        self._last_index = -1
        self._questions = Questions()
        self._had_words = False
        self._speller = Speller()
        self._novelties = Novelties(logger, "the gateway")

    # -- act ---------------------------------------------------------------------

    def sent(self, now: float) -> None:
        """Note one frame; called before it is written."""
        self._epochs[-1].sent += 1
        self._questions.sent(now)

    def flush(self, token: int, now: float) -> str | None:
        """Begin to wait for everything sent so far.

        Returns:
            A message to send, where the gateway understands one.
        """
        asked = self.ready is not None
        number = self._questions.flush(token, now, asked=asked)
        return gateway.encode_flush(number) if asked else None

    def reset(self, now: float) -> str:
        """Begin the next epoch with the next frame.

        Returns:
            The message to send.

        Raises:
            ConfigError: If the gateway understands none.
        """
        if self.ready is None:
            raise ConfigError("this gateway cannot be reset")
        self._epochs.append(_Epoch())
        return gateway.encode_reset(self._questions.reset(now))

    # -- receive -----------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When `tick` is due next; infinite for never."""
        alive = self._heard + ALIVE_S if self.ready is not None else math.inf
        return min(alive, self._questions.due, self._speller.deadline)

    def receive(self, message: bytes | str, now: float) -> None:
        """Take one message.

        Raises:
            ProtocolError: If it cannot be understood.
            CapacityError: If the gateway says that it is full.
            ConnectFailed: If it reports another failure before it was ready.
            ConnectionLost: If it does so later.
        """
        decoded = gateway.decode(message)
        self._heard = now
        match decoded:
            case gateway.Ack():
                self._ack(decoded, now)
            case gateway.Token():
                self._token(decoded, now)
            case gateway.WordEnd():
                self._word_end(decoded)
            case gateway.VadEnd():
                self._vad_end(decoded)
            case gateway.Transcript():
                self._transcript(decoded, now)
            case gateway.Flushed():
                for token in self._questions.flushed(decoded.number):
                    self._confirm(token)
            case gateway.WasReset():
                self._was_reset(decoded)
            case gateway.Error():
                self._error(decoded)
            case _:
                self._rest(decoded)

    def tick(self, now: float) -> None:
        """Do what is due.

        Raises:
            ConnectionLost: If the gateway owes an answer and does not give it.
        """
        self._tell(self._speller.tick(now))
        while (token := self._questions.take_due(now)) is not None:
            self._confirm(token)
        if self.ready is not None and now >= self._heard + ALIVE_S:
            raise ConnectionLost(f"the gateway was silent for {ALIVE_S:g} s")

    def ended(self, end: Ended, now: float) -> KyutaiStreamError:
        """Say what the end of the connection means."""
        fresh_s = math.inf if self._had_words else now - self._opened
        return close_error(end, established=self.established, fresh_s=fresh_s)

    # -- collect -----------------------------------------------------------------

    def events(self) -> list[ConnectionEvent]:
        """Take what came up since the last call."""
        events, self._events = self._events, []
        return events

    def _is_current(self, number: int | None) -> bool:
        """Whether a message is of this epoch; those of older ones are late."""
        if number is None:
            return True
        if self._number is None:
            self._number = number
        if number > self._number:
            raise ConnectionLost("the gateway began anew without being asked")
        return number == self._number

    def _ack(self, ack: gateway.Ack, now: float) -> None:
        if not self._is_current(ack.epoch):
            return
        epoch = self._epochs[0]
        processed = min(ack.samples // FRAME_SAMPLES, epoch.sent)
        epoch.processed = max(epoch.processed, processed)
        lag = epoch.sent - epoch.processed
        self._events.append(Progress(frames_processed=epoch.processed, lag_frames=lag))
        horizons = self.ready.pause_horizons_s if self.ready is not None else ()
        if ack.prs and len(ack.prs) == len(horizons):
            self._events.append(Pause(probabilities=ack.prs, horizons_s=horizons))
        self._questions.acknowledged(now)

    def _token(self, token: gateway.Token, now: float) -> None:
        if token.index is None or token.start_s is None:
            self._spoke_older()
            self._tell(self._speller.token(token.text, now))
            self._questions.word_came(now)
            return
        # A word told twice is the server's mistake, not the speaker's.
        if not self._is_current(token.epoch) or token.index <= self._last_index:
            return
        self._last_index = token.index
        text = " ".join(token.text.split())
        if text:
            self._ends[token.index] = self._epochs[0].words
            if len(self._ends) > REMEMBERED:
                self._ends.pop(next(iter(self._ends)))
            self._word(text, max(0.0, token.start_s))

    def _word_end(self, word_end: gateway.WordEnd) -> None:
        if self._is_current(word_end.epoch):
            index = self._ends.pop(word_end.index, None)
            if index is not None:
                end = max(0.0, word_end.end_s)
                self._events.append(WordEnd(index=index, end=end))

    def _vad_end(self, vad_end: gateway.VadEnd) -> None:
        if self._is_current(vad_end.epoch):
            self._spoke_older()
            self._pause()

    def _transcript(self, message: gateway.Transcript, now: float) -> None:
        self._spoke_older()
        self._tell(self._speller.text(message.text, now, final=message.final))
        self._questions.word_came(now)
        if message.final or message.vad_end:
            self._pause()

    def _spoke_older(self) -> None:
        self.is_older = self.is_older or self.ready is None

    def _pause(self) -> None:
        self._tell(self._speller.finish())
        horizons = self.ready.pause_horizons_s if self.ready is not None else ()
        horizons = horizons or ONE_HORIZON_S
        certain = (1.0,) * len(horizons)
        self._events.append(Pause(probabilities=certain, horizons_s=horizons))

    def _tell(self, words: list[str]) -> None:
        """Words without times: they have just been heard, in this order."""
        epoch = self._epochs[0]
        heard_s = epoch.sent * FRAME_S
        first_s = max(epoch.last_start, heard_s - self._delay_s - WORD_S)
        for number, word in enumerate(words):
            share = number / len(words)
            self._word(word, first_s + share * max(0.0, heard_s - first_s))

    def _word(self, text: str, start: float) -> None:
        epoch = self._epochs[0]
        self._had_words = True
        epoch.last_start = max(epoch.last_start, start)
        self._events.append(Word(index=epoch.words, text=text, start=start))
        epoch.words += 1

    def _confirm(self, token: int) -> None:
        self._tell(self._speller.finish())
        self._events.append(Flushed(token=token))

    def _was_reset(self, was_reset: gateway.WasReset) -> None:
        if len(self._epochs) == 1:
            raise ConnectionLost("the gateway began anew without being asked")
        self._epochs.popleft()
        self._questions.was_reset()
        self._number = was_reset.epoch
        self._ends.clear()
        self._last_index = -1
        self._speller = Speller()
        self._events.append(WasReset())

    def _error(self, error: gateway.Error) -> None:
        if error.code == "bad_control":
            # The stream goes on; what was asked for will not be answered.
            self._novelties.say("error bad_control")
            self._questions.not_understood()
            return
        raise message_error(error, established=self.established)

    def _rest(
        self,
        message: gateway.Ready
        | gateway.Ping
        | gateway.Draining
        | gateway.End
        | gateway.Unknown,
    ) -> None:
        match message:
            case gateway.Ready():
                self.ready = self.ready or message
            case gateway.Draining(deadline_s=seconds):
                self._events.append(Draining(deadline_s=max(0.0, seconds)))
            case gateway.Unknown(kind=kind):
                self._novelties.say(kind)
            case gateway.Ping() | gateway.End():
                # A close follows the end, and says the rest.
                pass
            case _:
                assert_never(message)
