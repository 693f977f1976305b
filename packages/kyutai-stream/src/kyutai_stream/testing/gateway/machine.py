# SPDX-License-Identifier: MIT
"""One `/v1/stream` in time, whatever it speaks: start, pace, incidents, timers.

A `StreamMachine` takes messages and the time and returns what to send; the shell in
`connection` does the rest. What is said is its dialect's business. Nothing here
waits or reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from .dialect import Dialect
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
from .options import Output, Send, say
from .pump import Mark

__all__ = ["StreamMachine"]

GARBAGE = ("{not json", "[1, 2]", '"text"', "null", "", b"\x00\xff")
"""What no parser should fall over."""


class StreamMachine:
    """One connection of a gateway.

    Args:
        dialect: What it speaks.
        now: Seconds, at the moment the connection was accepted.
    """

    def __init__(self, dialect: Dialect, now: float) -> None:
        self.dialect = dialect
        self.pump = dialect.pump
        self._options = dialect.options
        self._timers = dialect.options.timers
        self._incidents: list[At] = list(dialect.options.attempt.incidents)
        self._ready = False
        self._opened = now
        self._heard = now
        self._ready_at = now
        self._pinged = now

    def receive(self, message: bytes | str, now: float) -> list[Output]:
        """Take a message of the client."""
        if self.dialect.closed:
            return []
        if isinstance(message, bytes):
            self._heard = now
            outputs = self.dialect.on_binary(message, now)
        else:
            outputs = self.dialect.on_text(message, now)
        return outputs + self.tick(now)

    def tick(self, now: float) -> list[Output]:
        """Do whatever is due."""
        outputs: list[Output] = []
        if self.dialect.closed:
            return outputs
        for action in self._due(now):
            outputs += action
            if self.dialect.closed:
                break
        return outputs

    def happen(self, incident: Incident, now: float) -> list[Output]:
        """Let something go wrong now."""
        dialect = self.dialect
        if dialect.closed:
            return []
        match incident:
            case Abort() | CloseWith() | HalfOpen():
                dialect.closed = True
                return [incident]
            case Fail(code=code):
                return dialect.fail(code)
            case Drain(deadline_s=seconds):
                return dialect.drain(seconds * self._options.scale, now)
            case StopSteps():
                self.pump.stopped = True
            case Resume():
                self.pump.stopped = False
            case StopWords():
                self.pump.model.stop_hearing()
            case Garbage():
                return [Send(message=text) for text in GARBAGE]
            case UnknownMessages():
                return [say(message) for message in dialect.unknown()]
            case StaleEpoch():
                return dialect.stale()
            case SendRaw(message=raw):
                return [Send(message=raw)]
        return []

    def wakeup(self) -> float | None:
        """When `tick` has something to do without a message; None for never."""
        if self.dialect.closed:
            return None
        times = [at for at in self._timeline() if at is not None]
        return min(times) if times else None

    def _due(self, now: float) -> Iterator[list[Output]]:
        if not self._ready:
            yield from self._due_start(now)
        while self._ready and (reached := self.pump.next(now)) is not None:
            if isinstance(reached, Mark):
                yield self.dialect.on_mark(reached, now)
            else:
                yield self.dialect.on_step(reached, now)
        yield from self._due_incidents(now)
        yield from self._due_timers(now)

    def _due_start(self, now: float) -> Iterator[list[Output]]:
        attempt = self._options.attempt
        refuse = "capacity" if attempt.full else self._options.refuse
        if refuse is not None:
            self._ready = True
            yield self.dialect.fail(refuse)
        if attempt.close_first is not None:
            yield [self.dialect.close(attempt.close_first)]
        if attempt.never_ready:
            self.pump.stopped = True
        elif now >= self._scaled(attempt.ready_s):
            self._ready = True
            self._ready_at = now
            yield self.dialect.on_ready()

    def _due_incidents(self, now: float) -> Iterator[list[Output]]:
        for at in tuple(self._incidents):
            by_frame = at.frame is not None and self.pump.frames >= at.frame
            by_time = at.after_s is not None and now >= self._scaled(at.after_s)
            if by_frame or by_time:
                self._incidents.remove(at)
                yield self.happen(at.incident, now)

    def _due_timers(self, now: float) -> Iterator[list[Output]]:
        timers, dialect = self._timers, self.dialect
        if timers.ping_s is not None and now >= self._pinged + timers.ping_s:
            self._pinged = now
            yield dialect.ping()
        idle_at = self._idle_at()
        if idle_at is not None and now >= idle_at:
            yield dialect.idle()
        if timers.life_s is not None and now >= self._opened + timers.life_s:
            self._timers = evolve(timers, life_s=None)
            yield dialect.die(now)
        if dialect.drain_at is not None and now >= dialect.drain_at:
            dialect.drain_at = None
            yield dialect.expire(now)

    def _idle_at(self) -> float | None:
        waits = self.dialect.waits_for_ready
        if self._timers.idle_s is None or (waits and not self._ready):
            return None
        since = max(self._heard, self._ready_at) if waits else self._heard
        return since + self._timers.idle_s

    def _timeline(self) -> Iterator[float | None]:
        timers, attempt = self._timers, self._options.attempt
        if self._ready:
            yield self.pump.wakeup()
        elif not attempt.never_ready:
            yield self._scaled(attempt.ready_s)
        for at in self._incidents:
            yield None if at.after_s is None else self._scaled(at.after_s)
        yield None if timers.ping_s is None else self._pinged + timers.ping_s
        yield self._idle_at()
        yield None if timers.life_s is None else self._opened + timers.life_s
        yield self.dialect.drain_at

    def _scaled(self, seconds: float) -> float:
        return self._opened + seconds * self._options.scale
