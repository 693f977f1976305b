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
from ..backend import Backend, ConnectRequest
from ..errors import AuthError, KyutaiStreamError
from ._checks import MARKS, Check, Verdict, fix_of, is_bare, problem_of
from ._failures import FAILED, one_line
from ._settings import BackendChoice
from ._trial import WORK_S, Trial

__all__ = ["Doctor", "examine"]

PROBE_S = 10.0
"""Time for a server to tell its free places."""


@define
class Doctor:
    """Looks at one backend; `checks` grows."""

    choice: BackendChoice
    language: str | None
    wait_s: float
    report: Callable[[Check], None]
    checks: list[Check] = field(factory=list)
    _trial: Trial | None = field(default=None, init=False)

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
            with anyio.fail_after(PROBE_S):
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
                    took_s = anyio.current_time() - began
                    self._note("connects", "ok", f"in {took_s:.2f} s")
                    self._note("key", "ok", "not refused")
                    self._trial = Trial(connection, self._note)
                    await self._trial.run(began, opening)
        except Exception as exc:
            self._refused(exc)
            return
        if opening.cancelled_caught and self._stage in ("connects", "ready"):
            found = f"nothing came for {self.wait_s:g} s"
            fix = "is it still starting? --wait gives it longer"
            self._note("ready", "failed", found, fix)
        elif opening.cancelled_caught:
            found = f"it took no more audio for {WORK_S:g} s"
            self._note(
                self._stage, "failed", found, "its model stands still: restart it"
            )

    @property
    def _stage(self) -> str:
        return "connects" if self._trial is None else self._trial.stage

    def _refused(self, error: Exception) -> None:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, AuthError):
            self._failed("key", error)
            return
        self._failed(self._stage, error)


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
