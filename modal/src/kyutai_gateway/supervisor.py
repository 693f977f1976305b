# SPDX-License-Identifier: MIT
"""moshi-server as a child: started, proven, watched, restarted, given up.

Every start has a port (unless one is set) and a key of its own. It is ready when a
stream was answered. Then it is asked again every `probe_interval_s`, and at once
when a stream suspects it; silent twice, it is killed and started again.
"""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import anyio.to_thread
from attrs import frozen

from kyutai_stream.backends.moshi_server import MoshiServerBackend

from ._local import HOST, free_port, listening, run_folder
from ._restarts import RestartPolicy
from ._upstream_base import UpstreamBase, UpstreamFailed
from .child import Child, ChildCommand, run_child
from .cold_start import ColdStart
from .moshi_config import (
    PATH,
    SHAPES,
    ModelShape,
    WeightFiles,
    moshi_config,
    new_key,
    weight_files,
    write_config,
)
from .probe import Probe, ProbeResult, Verdict
from .settings import GatewaySettings
from .upstream import UpstreamState

__all__ = ["SupervisedServer", "UpstreamFailed"]

logger = logging.getLogger("kyutai_gateway.supervisor")

STRIKES = 2
"""Silent probes in a row until it is restarted: one may be an overloaded machine."""
FULL_S = 25.0
"""A server that says it is full although we hold fewer streams, for so long, has a
dead model loop: that is what gives places free. A place of a client that vanished
is held for 20 s."""


@frozen(kw_only=True)
class _Start:
    """Where one started server is."""

    port: int
    key: str

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}{PATH}"


class SupervisedServer(UpstreamBase):
    """A moshi-server of our own; fulfils `Upstream`.

    Args:
        settings: Which server, model and limits.
        shape: What the weights are, where they are not the published ones.

    Raises:
        SettingsError: From `run`, if weights are missing.
        UpstreamFailed: From `run`, if it failed more often than is allowed.
    """

    def __init__(
        self, settings: GatewaySettings, *, shape: ModelShape | None = None
    ) -> None:
        super().__init__(settings)
        self._shape = shape or SHAPES[settings.model]
        self._policy = RestartPolicy(
            limit=settings.max_restarts,
            window_s=settings.restart_window_s,
            backoff_s=settings.restart_backoff_s,
        )
        self._start: _Start | None = None
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return None if self._child is None else self._child.pid

    @property
    def http_url(self) -> str | None:
        """Base address of its own pages; None while it does not run."""
        return None if self._start is None else f"http://{HOST}:{self._start.port}"

    @property
    def restarts(self) -> int:
        """How often it was restarted."""
        return self._policy.count

    async def run(self) -> None:
        """Keep a server running until cancelled; leaves no process behind.

        Raises:
            SettingsError: If weights are missing.
            UpstreamFailed: If it failed more often than is allowed.
        """
        files = await anyio.to_thread.run_sync(
            weight_files, self._settings, self._shape
        )
        with run_folder() as folder:
            while True:
                reason = await self._life(folder, files)
                pause_s = self._policy.failed(anyio.current_time())
                if pause_s is None:
                    self._set(UpstreamState.FAILED, reason)
                    raise UpstreamFailed(reason)
                self._set(UpstreamState.STARTING, reason)
                await anyio.sleep(pause_s)

    # One process from start to end

    async def _life(self, folder: Path, files: WeightFiles) -> str:
        """Run one server to its end.

        Returns:
            Why it ended.
        """
        port = self._settings.child_port or free_port()
        self._start = start = _Start(port=port, key=new_key())
        text = moshi_config(
            self._settings, files, shape=self._shape, folder=folder, key=start.key
        )
        config = await anyio.to_thread.run_sync(write_config, folder, text)
        self._cold = ColdStart.begin(anyio.current_time(), again=self.restarts > 0)
        try:
            async with run_child(self._command(config, start)) as child:
                self._child = child
                self._cold.mark("exec", anyio.current_time())
                reason = await self._until_over(child, start)
                # No new streams while it is being ended.
                self._gate.put(None)
        finally:
            self._gate.put(None)
            self._start = self._child = None
        self._log_end(child, reason)
        return reason

    async def _until_over(self, child: Child, start: _Start) -> str:
        reason = ""

        async def watch() -> None:
            nonlocal reason
            reason = await self._watch(start)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await child.wait()
            tasks.cancel_scope.cancel()
        return reason or f"moshi-server ended {_how(child.status)}"

    async def _watch(self, start: _Start) -> str:
        """Prove it ready and go on proving it.

        Returns:
            Why it must be restarted.
        """
        problem = await self._become_ready(start)
        if problem:
            return problem
        probe = self._probe(start, self._settings.ready_timeout_s)
        strikes, full_since = 0, None
        while True:
            await self._due(self._settings.probe_interval_s)
            result = await self._ask(probe)
            if result is None:
                continue
            now = anyio.current_time()
            match result.verdict:
                case Verdict.ALIVE:
                    strikes, full_since = 0, None
                    self._set(UpstreamState.READY)
                    continue
                case Verdict.FULL if self._gate.open < self.slots:
                    full_since = now if full_since is None else full_since
                    if now - full_since >= FULL_S:
                        return "moshi-server gives no place free any more"
                case Verdict.FULL:
                    continue
                case _:
                    strikes += 1
                    self._set(UpstreamState.WEDGED, result.reason)
                    if strikes >= STRIKES:
                        return result.reason
            # Not sure yet: ask again soon.
            self.suspect()

    async def _become_ready(self, start: _Start) -> str:
        """Wait for the port, then for the model.

        Returns:
            What went wrong; empty for nothing.
        """
        limit_s = self._settings.start_timeout_s
        with anyio.move_on_after(limit_s):
            await listening(start.port)
            self._mark("listen")
            result = await self._first_answer(start)
            if result.verdict is not Verdict.ALIVE:
                return result.reason
            self._mark("ready")
            key, model = start.key, self.model
            self._gate.put(MoshiServerBackend(url=start.url, api_key=key, model=model))
            self._set(UpstreamState.READY)
            self._log_start()
            return ""
        return f"moshi-server was not ready within {limit_s:g} s"

    async def _first_answer(self, start: _Start) -> ProbeResult:
        """Probe with the patience that the model's warm-up needs."""
        probe = self._probe(start, self._settings.warm_up_timeout_s)
        result = await probe.run()
        if result.verdict is Verdict.ALIVE:
            await probe.release(0)
        return result

    def _probe(self, start: _Start, timeout_s: float) -> Probe:
        return Probe(
            url=start.url,
            api_key=start.key,
            model=self.model,
            ready_timeout_s=timeout_s,
        )

    def _command(self, config: Path, start: _Start) -> ChildCommand:
        settings = self._settings
        environment = dict(settings.child_environment)
        libraries = [str(path) for path in settings.library_path]
        if libraries:
            inherited = environment.get("LD_LIBRARY_PATH")
            parts = [*libraries, *([inherited] if inherited else [])]
            environment["LD_LIBRARY_PATH"] = ":".join(parts)
        environment["NO_COLOR"] = "1"
        arguments = [
            *(str(settings.moshi_server), "worker", "--config", str(config)),
            *("--addr", HOST, "--port", str(start.port), "-l", "warn"),
            *(["--cpu"] if settings.device == "cpu" else []),
        ]
        return ChildCommand(
            arguments=arguments,
            environment=environment,
            hidden=(start.key,),
            terminate_s=settings.terminate_s,
        )

    # Logs

    def _mark(self, name: str) -> None:
        if self._cold is not None:
            self._cold.mark(name, anyio.current_time())

    def _log_start(self) -> None:
        record = {"event": "cold_start", "restart": self.restarts, **self.cold_start}
        logger.info("moshi-server is ready", extra=record)

    def _log_end(self, child: Child, reason: str) -> None:
        # At `-l warn` a BatchedAsr server says nothing of what it hears.
        logger.error(
            "moshi-server is over: %s",
            reason,
            extra={
                "event": "upstream_end",
                "status": child.status,
                "last_lines": child.tail(),
            },
        )


def _how(status: int | None) -> str:
    if status is not None and status < 0:
        return f"by signal {-status}"
    return f"with status {status}"
