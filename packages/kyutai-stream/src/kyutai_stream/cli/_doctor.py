# SPDX-License-Identifier: MIT
"""`kyutai-stream doctor`: look at one backend, step by step, through its contract."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable

import anyio
import numpy as np
from attrs import asdict, define, field
from rich.console import Console
from rich.text import Text

from ..audio import Resampler
from ..backend import (
    Backend,
    Capabilities,
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Progress,
    Ready,
)
from ..core import FRAME_S, FRAME_SAMPLES
from ..errors import AuthError, ConnectionLost, KyutaiStreamError
from ._checks import MARKS, Check, Verdict, fix_of, is_bare, problem_of
from ._failures import FAILED, one_line
from ._settings import BackendChoice

__all__ = ["Doctor", "examine"]

SILENCE_S = 2.0
FLUSH_S = 10.0
WORK_S = 60.0
"""Longest time for everything after it is ready."""
LATE_S = 10.0
"""A server that needs longer to be ready gets a remark: it was asleep."""


@define
class Doctor:
    """Looks at one backend; `checks` grows."""

    choice: BackendChoice
    language: str | None
    wait_s: float
    report: Callable[[Check], None]
    checks: list[Check] = field(factory=list)
    stage: str = "connects"

    async def examine(self) -> None:
        """Run all checks in order; what depends on a failed one is skipped."""
        backend = self._load()
        self._address()
        if backend is not None:
            await self._capacity(backend)
            await self._connect(backend)
        self._resampling()

    def _note(self, name: str, verdict: Verdict, found: str, fix: str = "") -> None:
        check = Check(
            name=name, verdict=verdict, found=one_line(found), fix=one_line(fix)
        )
        self.checks.append(check)
        self.report(check)

    def _failed(self, name: str, error: Exception, fix: str = "") -> None:
        text = f"{error}" or type(error).__name__
        self._note(name, "failed", text, fix or fix_of(error))

    # -- without the network -----------------------------------------------------

    def _load(self) -> Backend | None:
        try:
            backend = self.choice.build()
        except KyutaiStreamError as exc:
            self._failed("backend loads", exc, "see `kyutai-stream backends`")
            return None
        self._note("backend loads", "ok", f"{backend.name}: {backend.description}")
        spoken = backend.capabilities.languages
        if self.language is not None and spoken and self.language not in spoken:
            self._note(
                "language",
                "failed",
                f"{backend.name} does not speak {self.language!r}",
                f"--language: one of {', '.join(spoken)}",
            )
        if not backend.capabilities.transcribes:
            self._note(
                "recognises speech",
                "remark",
                f"{backend.name} recognises nothing, it only notices who speaks",
                "choose a recogniser with --backend",
            )
        return backend

    def _address(self) -> None:
        url = self.choice.config().get("url")
        if not isinstance(url, str):
            self._note("address", "skipped", "none was given")
            return
        fix = "--url ws://HOST:PORT or wss://HOST"
        for one in url.split(","):
            problem = problem_of(one.strip())
            if problem is not None:
                self._note("address", "failed", problem, fix)
                return
        if any(is_bare(one.strip()) for one in url.split(",")):
            self._note(
                "address",
                "remark",
                "audio and key travel unencrypted to another machine",
                "use wss:// where the network is not yours",
            )
            return
        self._note("address", "ok", "looks right")

    def _resampling(self) -> None:
        try:
            Resampler(48_000).push(np.zeros(4800, dtype=np.float32))
        except KyutaiStreamError as exc:
            self._failed("other sample rates", exc)
            return
        self._note("other sample rates", "ok", "audio of any rate can be used")

    # -- with the server -----------------------------------------------------------

    async def _capacity(self, backend: Backend) -> None:
        # Not part of the contract: a backend may offer it.
        probe: Callable[[], Awaitable[object]] | None = getattr(backend, "slots", None)
        if probe is None:
            return
        try:
            with anyio.fail_after(FLUSH_S):
                found = await probe()
        except (KyutaiStreamError, TimeoutError) as exc:
            self._note("free places", "remark", f"the server does not tell: {exc}")
            return
        places = found.values() if isinstance(found, dict) else [found]
        told = [(getattr(p, "used", None), getattr(p, "total", None)) for p in places]
        text = ", ".join(f"{used} of {total} taken" for used, total in told)
        full = all(used is not None and used == total for used, total in told)
        self._note(
            "free places",
            "remark" if full else "ok",
            text,
            "wait, or name another server" if full else "",
        )

    async def _connect(self, backend: Backend) -> None:
        request = ConnectRequest(language=self.language, speaker="doctor")
        began = anyio.current_time()
        try:
            with anyio.move_on_after(self.wait_s) as opening:
                async with backend.connect(request) as connection:
                    await self._listen(connection, began, opening)
        except Exception as exc:
            self._refused(exc)
            return
        if opening.cancelled_caught and self.stage in ("connects", "ready"):
            found = f"nothing came for {self.wait_s:g} s"
            fix = "is it still starting? --wait gives it longer"
            self._note("ready", "failed", found, fix)
        elif opening.cancelled_caught:
            found = f"it took no more audio for {WORK_S:g} s"
            self._note(
                self.stage, "failed", found, "its model stands still: restart it"
            )

    def _refused(self, error: Exception) -> None:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, AuthError):
            self._failed("key", error)
            return
        self._failed(self.stage, error)

    async def _listen(
        self, connection: Connection, began: float, opening: anyio.CancelScope
    ) -> None:
        self._note("connects", "ok", f"in {anyio.current_time() - began:.2f} s")
        self._note("key", "ok", "not refused")
        self.stage = "ready"
        heard = _Heard()
        failures: list[Exception] = []

        async def listen() -> None:
            try:
                async for event in connection:
                    heard.take(event)
                failures.append(ConnectionLost("the server ended the connection"))
            except Exception as exc:
                failures.append(exc)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await heard.until(lambda: heard.ready is not None)
            opening.deadline = anyio.current_time() + WORK_S
            self._ready(anyio.current_time() - began)
            self.stage = "keeps up"
            await self._silence(connection, heard)
            self.stage = "last words"
            await self._flush(connection, heard)
            tasks.cancel_scope.cancel()
        if failures:
            raise failures[0]

    def _ready(self, after_s: float) -> None:
        if after_s > LATE_S:
            fix = "it was asleep: keep it warm, or live with the wait"
            self._note("ready", "remark", f"after {after_s:.1f} s (cold start)", fix)
        else:
            self._note("ready", "ok", f"after {after_s:.2f} s")

    async def _silence(self, connection: Connection, heard: _Heard) -> None:
        """Send silence as fast as it would be spoken and see whether it keeps up."""
        capabilities = heard.capabilities
        frames = round((SILENCE_S + capabilities.silence_prefix_s) / FRAME_S)
        began = anyio.current_time()
        longest = 0
        for n in range(frames):
            await anyio.sleep_until(began + n * FRAME_S)
            await connection.send(np.zeros(FRAME_SAMPLES, dtype=np.float32))
            longest = max(longest, n + 1 - heard.frames)
        took_s = anyio.current_time() - began
        if not capabilities.acks:
            self._note("keeps up", "skipped", "it does not tell how far it is")
            return
        with anyio.move_on_after(FLUSH_S):
            await heard.until(lambda: heard.frames >= frames)
        lag_s = longest * FRAME_S
        rate = heard.frames / max(anyio.current_time() - began, took_s, FRAME_S)
        found = (
            f"{heard.frames} of {frames} frames done, {rate:.1f} a second (12.5 are"
            f" needed), at most {lag_s:.2f} s behind"
        )
        if heard.frames < frames:
            self._note(
                "keeps up", "failed", found, "its model stands still: restart it"
            )
        elif lag_s > 1.0:
            fix = "it is busy: fewer streams, or a stronger machine"
            self._note("keeps up", "remark", found, fix)
        else:
            self._note("keeps up", "ok", found)

    async def _flush(self, connection: Connection, heard: _Heard) -> None:
        capabilities = heard.capabilities
        began = anyio.current_time()
        if not capabilities.self_flushing:
            for _ in range(round(capabilities.nominal_delay_s / FRAME_S) + 3):
                await connection.send(np.zeros(FRAME_SAMPLES, dtype=np.float32))
        await connection.request_flush(1)
        with anyio.move_on_after(FLUSH_S):
            await heard.until(lambda: heard.flushed)
        if heard.flushed:
            took_s = anyio.current_time() - began
            self._note("last words", "ok", f"confirmed after {took_s:.2f} s")
        else:
            found = f"no confirmation within {FLUSH_S:g} s"
            self._note("last words", "failed", found, "its model may stand still")


@define
class _Heard:
    ready: Ready | None = None
    frames: int = 0
    flushed: bool = False
    changed: anyio.Event = field(factory=anyio.Event)

    @property
    def capabilities(self) -> Capabilities:
        return self.ready.capabilities if self.ready is not None else Capabilities()

    def take(self, event: ConnectionEvent) -> None:
        match event:
            case Ready():
                self.ready = event
            case Progress():
                self.frames = event.frames_processed
            case Flushed():
                self.flushed = True
        self.changed.set()
        self.changed = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.changed.wait()


async def examine(
    choice: BackendChoice, *, language: str | None, wait_s: float, as_json: bool
) -> int:
    """Run the checks and print them.

    Returns:
        The exit code: 1 if something failed.
    """
    console = Console()

    def report(check: Check) -> None:
        if as_json:
            return
        word, style = MARKS[check.verdict]
        line = Text(f"{word:>7}", style=style)
        line.append(f"  {check.name}: {check.found}", style="none")
        console.print(line, soft_wrap=True)
        if check.fix:
            console.print(Text(f"         → {check.fix}"), soft_wrap=True)

    doctor = Doctor(choice, language, wait_s, report)
    await doctor.examine()
    failed = any(check.verdict == "failed" for check in doctor.checks)
    if as_json:
        record = {"ok": not failed, "checks": [asdict(one) for one in doctor.checks]}
        sys.stdout.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return FAILED if failed else 0
