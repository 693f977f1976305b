# SPDX-License-Identifier: MIT
"""What all dialects of `/v1/stream` have in common, without any I/O.

A `Dialect` takes messages and the time and returns what to send; the shell in
`server` does the rest. Nothing here waits or reads a clock.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from attrs import evolve

from ...core import FRAME_SAMPLES
from .incidents import (
    Abort,
    At,
    CloseWith,
    Drain,
    Fail,
    Garbage,
    HalfOpen,
    Incident,
    Resume,
    SendRaw,
    StaleEpoch,
    StopSteps,
    StopWords,
    UnknownMessages,
)
from .model import FakeModel, Frame
from .options import DialectOptions, JsonObject, Output, Send
from .pump import Mark, Pump, Stepped

__all__ = ["Dialect"]


class Dialect(ABC):
    """One connection of a gateway; subclasses speak.

    Args:
        options: What it needs to know.
        now: Seconds, at the moment the connection was accepted.
    """

    waits_for_ready = False
    """Whether a client may wait for the model without being called idle."""

    def __init__(self, options: DialectOptions, now: float) -> None:
        self.options = options
        self.timers = options.timers
        self.pump = Pump(self._new_model, step_s=options.step_s)
        self.closed = False
        self.ready = False
        self.samples = 0
        """Samples received."""
        self._opened = now
        self._heard = now
        self._ready_at = now
        self._pinged = now
        self._deadline: float | None = None
        self._incidents: list[At] = list(options.attempt.incidents)

    # What the shell calls

    def receive(self, message: bytes | str, now: float) -> list[Output]:
        """Take a message of the client."""
        if self.closed:
            return []
        outputs: list[Output] = []
        if isinstance(message, bytes):
            self._heard = now
            outputs += self.on_binary(message, now)
        else:
            outputs += self.on_text(message, now)
        return outputs + self.tick(now)

    def tick(self, now: float) -> list[Output]:
        """Do whatever is due."""
        outputs: list[Output] = []
        for action in self._due(now):
            outputs += action
            if self.closed:
                break
        return outputs

    def happen(self, incident: Incident, now: float) -> list[Output]:
        """Let something go wrong now."""
        if self.closed:
            return []
        match incident:
            case Abort() | CloseWith() | HalfOpen():
                self.closed = True
                return [incident]
            case Fail(code=code):
                return self.fail(code)
            case Drain(deadline_s=seconds):
                return self.drain(seconds * self.options.scale, now)
            case StopSteps():
                self.pump.stopped = True
            case Resume():
                self.pump.stopped = False
            case StopWords():
                self.pump.model.stop_hearing()
            case Garbage():
                return [Send(message=text) for text in self.garbage()]
            case UnknownMessages():
                return [self.send(message) for message in self.unknown()]
            case StaleEpoch():
                return self.stale()
            case SendRaw(message=raw):
                return [Send(message=raw)]
        return []

    def wakeup(self) -> float | None:
        """When `tick` has something to do without a message; None for never."""
        if self.closed:
            return None
        times = [at for at in self._timeline() if at is not None]
        return min(times) if times else None

    # What subclasses say

    @abstractmethod
    def on_binary(self, data: bytes, now: float) -> list[Output]:
        """Take a binary message."""

    @abstractmethod
    def on_text(self, text: str, now: float) -> list[Output]:
        """Take a text message."""

    @abstractmethod
    def on_step(self, stepped: Stepped, now: float) -> list[Output]:
        """Tell what a step brought."""

    @abstractmethod
    def fail(self, code: str) -> list[Output]:
        """Report an error and close, as far as the dialect does."""

    def on_mark(self, mark: Mark, now: float) -> list[Output]:
        """A mark was reached."""
        return []

    def on_ready(self) -> list[Output]:
        """The model is ready."""
        return []

    def ping(self) -> list[Output]:
        """Send a sign of life."""
        return [self.send({"type": "ping"})]

    def idle(self) -> list[Output]:
        """The client was silent for too long."""
        return self.fail("idle_timeout")

    def drain(self, seconds: float, now: float) -> list[Output]:
        """Announce the end, where the dialect can."""
        self._deadline = now + seconds
        return []

    def expire(self, now: float) -> list[Output]:
        """The announced end has come."""
        return self.fail("draining")

    def die(self, now: float) -> list[Output]:
        """The life of the connection is over."""
        return [self.close(1000)]

    def unknown(self) -> list[JsonObject]:
        """Messages of a newer gateway."""
        return [{"type": "hologram", "text": "not for you"}, {"type": "ping", "x": [1]}]

    def garbage(self) -> list[str | bytes]:
        """What no parser should fall over."""
        return ["{not json", "[1, 2]", '"text"', "null", "", b"\x00\xff"]

    def stale(self) -> list[Output]:
        """Messages of an epoch that is over; only protocol 1 has epochs."""
        return []

    # Helpers

    def send(self, message: JsonObject) -> Output:
        """Return a JSON text message."""
        return Send(message=json.dumps(message, ensure_ascii=False))

    def close(self, code: int, reason: str = "") -> Output:
        """Close and say no more."""
        self.closed = True
        return CloseWith(code=code, reason=reason)

    def hear(self, samples: Frame) -> None:
        """Queue samples of the client; what is no audio becomes some."""
        self.samples += len(samples)
        self.pump.push(np.clip(np.nan_to_num(samples), -1.0, 1.0))

    @property
    def frames(self) -> int:
        """Whole frames received."""
        return self.samples // FRAME_SAMPLES

    @property
    def flush_frames(self) -> int:
        """Silence behind the last voiced frame that brings out its words."""
        return self.options.model.delay_steps + 3

    def _new_model(self, epoch: int) -> FakeModel:
        options = self.options
        return FakeModel(options.model, options.listen, options.number, epoch)

    def _scaled(self, seconds: float) -> float:
        return self._opened + seconds * self.options.scale

    def _due(self, now: float) -> Iterator[list[Output]]:
        attempt = self.options.attempt
        if not self.ready:
            refuse = "capacity" if attempt.full else self.options.refuse
            if refuse is not None:
                self.ready = True
                yield self.fail(refuse)
            if attempt.close_first is not None:
                yield [self.close(attempt.close_first)]
            if attempt.never_ready:
                self.pump.stopped = True
            elif now >= self._scaled(attempt.ready_s):
                self.ready = True
                self._ready_at = now
                yield self.on_ready()
        while self.ready and (reached := self.pump.next(now)) is not None:
            if isinstance(reached, Mark):
                yield self.on_mark(reached, now)
            else:
                yield self.on_step(reached, now)
        yield from self._due_incidents(now)
        yield from self._due_timers(now)

    def _due_incidents(self, now: float) -> Iterator[list[Output]]:
        for at in tuple(self._incidents):
            by_frame = at.frame is not None and self.frames >= at.frame
            by_time = at.after_s is not None and now >= self._scaled(at.after_s)
            if by_frame or by_time:
                self._incidents.remove(at)
                yield self.happen(at.incident, now)

    def _due_timers(self, now: float) -> Iterator[list[Output]]:
        timers = self.timers
        if timers.ping_s is not None and now >= self._pinged + timers.ping_s:
            self._pinged = now
            yield self.ping()
        idle_at = self._idle_at()
        if idle_at is not None and now >= idle_at:
            yield self.idle()
        if timers.life_s is not None and now >= self._opened + timers.life_s:
            self.timers = evolve(timers, life_s=None)
            yield self.die(now)
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            yield self.expire(now)

    def _idle_at(self) -> float | None:
        if self.timers.idle_s is None or (self.waits_for_ready and not self.ready):
            return None
        since = self._heard
        if self.waits_for_ready:
            since = max(since, self._ready_at)
        return since + self.timers.idle_s

    def _timeline(self) -> Iterator[float | None]:
        timers, attempt = self.timers, self.options.attempt
        if self.ready:
            yield self.pump.wakeup()
        elif not attempt.never_ready:
            yield self._scaled(attempt.ready_s)
        for at in self._incidents:
            yield None if at.after_s is None else self._scaled(at.after_s)
        yield None if timers.ping_s is None else self._pinged + timers.ping_s
        yield self._idle_at()
        yield None if timers.life_s is None else self._opened + timers.life_s
        yield self._deadline
