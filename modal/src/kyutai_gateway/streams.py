# SPDX-License-Identifier: MIT
"""The open streams of a gateway: their places, their ends, what they came to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from kyutai_stream.core import SAMPLE_RATE

from .logs import log
from .metrics import Metrics
from .stream import Ending, Receive, Send, StreamMachine, StreamRules, StreamShell
from .stream.direct import Direct
from .upstream import Upstream

__all__ = ["Streams"]

LEFT_OVER_S = 5.0
"""After the deadline of a drain, for the close of what is still there."""

TROUBLES = ("cancelled", "internal", "not_read", "upstream_lost", "upstream_wedged")


class Streams:
    """Serves accepted websockets, and counts.

    Args:
        upstream: The model server.
        rules: Times and bounds of each stream.
        metrics: Takes what ended streams came to.
    """

    def __init__(
        self, upstream: Upstream, rules: StreamRules, metrics: Metrics
    ) -> None:
        self._upstream = upstream
        self._rules = rules
        self._metrics = metrics
        self._open: dict[int, StreamShell] = {}
        self._count = 0
        self.used = 0
        """Places taken."""
        self.changed = anyio.Event()
        """Set, and replaced, when a place has become free."""

    @property
    def total(self) -> int:
        """Places there are."""
        return self._upstream.slots

    @property
    def full(self) -> bool:
        """Whether no place is free."""
        return self.used >= self.total

    @property
    def shells(self) -> list[StreamShell]:
        """The streams."""
        return list(self._open.values())

    @property
    def received_samples(self) -> int:
        """Samples received, of ended streams too."""
        live = sum(shell.machine.samples for shell in self.shells)
        return live + self._metrics.audio_samples

    @property
    def words(self) -> int:
        """Words told, of ended streams too."""
        live = sum(shell.machine.narrator.words for shell in self.shells)
        return live + self._metrics.words

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place, which must be free, for as long as the context."""
        self.used += 1
        try:
            yield
        finally:
            self.used -= 1
            self.changed.set()
            self.changed = anyio.Event()

    async def serve(self, receive: Receive, send: Send, direct: Direct | None) -> None:
        """Serve one accepted websocket to its end.

        Args:
            receive: ASGI `receive`, after the connect.
            send: ASGI `send`, after the accept.
            direct: Where the server offers it: messages without a task.
        """
        self._count += 1
        number, began = self._count, anyio.current_time()
        upstream = self._upstream
        machine = StreamMachine(
            self._rules,
            model=upstream.model,
            capabilities=upstream.backend.capabilities,
            now=began,
            step_took=self._metrics.step_delay.add,
        )
        shell = StreamShell(
            receive=receive,
            send=send,
            direct=direct,
            machine=machine,
            upstream=upstream,
            rules=self._rules,
            first_word=getattr(upstream, "first_word", None),
        )
        self._open[number] = shell
        log("stream_opened", stream=number, used=self.used, total=self.total)
        ending = Ending(close=None, reason="cancelled")
        try:
            ending = await shell.run()
        finally:
            del self._open[number]
            self._account(number, shell, ending, anyio.current_time() - began)

    async def drain(self, deadline_s: float) -> None:
        """Let the open streams end, return when all have.

        Args:
            deadline_s: Seconds until the last is closed; the call takes 5 s more at
                most.
        """
        log("drain", streams=self.used, deadline_s=deadline_s)
        for shell in self.shells:
            shell.drain(deadline_s)
        with anyio.move_on_after(deadline_s + LEFT_OVER_S):
            while self.used:
                await self.changed.wait()
        log("drained", streams=self.used)

    def _account(
        self, number: int, shell: StreamShell, ending: Ending, life_s: float
    ) -> None:
        machine, metrics = shell.machine, self._metrics
        words = machine.narrator.words
        metrics.ended[ending.reason] += 1
        metrics.life.add(life_s)
        metrics.audio_samples += machine.samples
        metrics.words += words
        log(
            "stream_closed",
            level=logging.WARNING if ending.reason in TROUBLES else logging.INFO,
            exc=shell.failure,
            stream=number,
            reason=ending.reason,
            close=ending.close,
            life_s=round(life_s, 3),
            audio_s=round(machine.samples / SAMPLE_RATE, 3),
            words=words,
        )
