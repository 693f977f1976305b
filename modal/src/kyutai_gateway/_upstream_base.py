# SPDX-License-Identifier: MIT
"""What both kinds of upstream have in common: state, suspicion, cold start."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

import anyio

from kyutai_stream.backends.moshi_server import MoshiServerBackend

from ._gate import Gate
from ._tasks import open_tasks
from .cold_start import ColdStart
from .probe import Probe, ProbeResult, Verdict
from .settings import GatewaySettings
from .upstream import UpstreamState

__all__ = ["UpstreamBase", "UpstreamFailed"]

logger = logging.getLogger("kyutai_gateway.upstream")

GAP_S = 1.0
"""Between two probes, however many suspicions there are."""


class UpstreamFailed(Exception):
    """The model server cannot be brought back; this process should be replaced."""


class UpstreamBase:
    """State of a model server; subclasses find it out in `run`.

    Used as `async with`, it runs for as long as the context; a failure for good
    cancels the body and is raised as `UpstreamFailed`.

    Args:
        settings: Of the gateway.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._state = UpstreamState.STARTING
        self._problem = ""
        self._changed = anyio.Event()
        self._suspected = anyio.Event()
        self._cold: ColdStart | None = None
        self._context: AbstractAsyncContextManager[None] | None = None
        # The address does not matter for what a model can do.
        known = MoshiServerBackend(model=settings.model).capabilities
        self._gate = Gate(
            model=settings.model,
            capabilities=known,
            slots=settings.slots,
            alone=not settings.attached,
        )

    # What streams need (`Upstream`)

    @property
    def state(self) -> UpstreamState:
        """How it is, by its last probe."""
        return self._state

    @property
    def backend(self) -> Gate:
        """Opens connections; stays the same over restarts."""
        return self._gate

    @property
    def slots(self) -> int:
        """Streams it can serve at a time."""
        return self._settings.slots

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._settings.model

    async def wait_ready(self) -> None:
        """Wait until it is ready; to be bounded by the caller.

        Raises:
            UpstreamFailed: If it never will be.
        """
        while self._state is not UpstreamState.READY:
            if self._state is UpstreamState.FAILED:
                raise UpstreamFailed(self._problem)
            await self._changed.wait()

    def suspect(self) -> None:
        """Say that a stream saw no sign of life: it is probed at once."""
        self._suspected.set()

    # What diagnosis needs

    @property
    def problem(self) -> str:
        """Why it is not ready, for people; empty if it is or nothing is known."""
        return self._problem

    @property
    def http_url(self) -> str | None:
        """Base address of the server's own pages (`/metrics`); None if unknown."""
        return None

    @property
    def restarts(self) -> int:
        """How often it was restarted."""
        return 0

    @property
    def cold_start(self) -> dict[str, float | None]:
        """The moments of the last start (`ColdStart.record`); empty before it."""
        return {} if self._cold is None else self._cold.record()

    def first_word(self) -> None:
        """Note that a stream got a word; only the first one of a start counts."""
        if self._cold is None or not self._cold.mark(
            "first_word", anyio.current_time()
        ):
            return
        logger.info("first word", extra={"event": "first_word", **self._cold.record()})

    # Running

    async def run(self) -> None:
        """Keep it going until cancelled.

        Raises:
            UpstreamFailed: If it cannot be brought back.
        """
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        context = self._while_running()
        await context.__aenter__()
        self._context = context
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._context is None:
            raise AssertionError("left without having been entered")
        context, self._context = self._context, None
        return await context.__aexit__(exc_type, exc, traceback)

    @asynccontextmanager
    async def _while_running(self) -> AsyncGenerator[None, None]:
        async with open_tasks() as tasks:
            tasks.start_soon(self.run)
            yield

    # For subclasses

    def _set(self, state: UpstreamState, problem: str = "") -> None:
        """Change the state, tell those who wait, and log the change."""
        self._problem = problem
        if state is self._state:
            return
        before, self._state = self._state, state
        self._changed.set()
        self._changed = anyio.Event()
        level = logging.INFO if state is UpstreamState.READY else logging.WARNING
        logger.log(
            level,
            "moshi-server is %s",
            state.value,
            extra={"event": "upstream_state", "before": before.value, "why": problem},
        )

    async def _due(self, interval_s: float) -> None:
        """Wait for the next probe: the interval, or a suspicion."""
        if self._suspected.is_set():
            await anyio.sleep(GAP_S)
        with anyio.move_on_after(interval_s):
            await self._suspected.wait()

    async def _ask(self, probe: Probe) -> ProbeResult | None:
        """Probe, unless a stream may need the place; then suspicions stay."""
        if not self._gate.room_for_probe:
            return None
        self._suspected = anyio.Event()
        with self._gate.probing():
            result = await probe.run()
            if result.verdict is Verdict.ALIVE and not self._settings.attached:
                await probe.release(self._gate.open)
        if result.verdict is Verdict.FULL:
            self._gate.no_probe()
        return result
