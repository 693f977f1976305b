# SPDX-License-Identifier: MIT
"""The checks that are about the way there: address, keys, start, pages, codes."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import anyio
import numpy as np
from attrs import evolve

from kyutai_stream.core import FRAME_SAMPLES

from ._link import Page, Refused, get, open_stream
from ._plan import Plan
from ._report import Finding

__all__ = [
    "check_address",
    "check_close_codes",
    "check_doors",
    "check_pages",
    "check_start",
]

RETRY_S = 2.0
LONGEST_LABEL = 63


def check_address(plan: Plan) -> Finding:
    """Look at the address itself."""
    host = urlsplit(plan.target.url).hostname or ""
    label = host.removesuffix(".modal.run")
    if label != host and len(label) > LONGEST_LABEL:
        said = f"{len(label)} characters before .modal.run: more than {LONGEST_LABEL}"
        return Finding(name="address", outcome="failed", said=said)
    if not plan.target.secure and host not in ("127.0.0.1", "localhost", "::1"):
        said = "speech and keys travel without TLS"
        return Finding(name="address", outcome="failed", said=said)
    return Finding(name="address", outcome="ok", said=f"{host}")


async def check_doors(plan: Plan) -> list[Finding]:
    """Try without keys and with wrong ones; no container starts for that on Modal."""
    if plan.open_doors:
        said = "the gateway is meant to be open to anybody"
        return [Finding(name="keys", outcome="skipped", said=said)]
    wrong = {"Modal-Key": "wk-wrong", "Modal-Secret": "ws-wrong"}
    return [
        await _refused("keys-missing", plan, {}),
        await _refused("keys-wrong", plan, wrong),
    ]


async def _refused(name: str, plan: Plan, headers: dict[str, str]) -> Finding:
    began = anyio.current_time()
    target = evolve(plan.target, headers=headers)
    try:
        async with open_stream(target, timeout_s=plan.answer_s):
            said = "LET IN: anybody can listen at your cost"
            return Finding(name=name, outcome="failed", said=said)
    except Refused as exc:
        took_s = round(anyio.current_time() - began, 3)
        good = exc.status in (401, 403)
        return Finding(
            name=name,
            outcome="ok" if good else "failed",
            said=f"refused: {exc}" if good else f"expected HTTP 401, got {exc}",
            figures={"status": exc.status, "took": took_s},
        )


async def check_start(plan: Plan) -> Finding:
    """Ask for a model that is ready, and wait for it."""
    began = anyio.current_time()
    statuses: list[int] = []
    why = "no answer"
    while (left_s := plan.start_timeout_s - (anyio.current_time() - began)) > 0:
        try:
            page = await get(plan.target, "/v1/warm", timeout_s=max(1.0, left_s))
        except Refused as exc:
            why = str(exc)
        else:
            statuses.append(page.status)
            why = f"HTTP {page.status}"
            if page.status == 200 and page.json().get("ready") is not False:
                return _started(page, anyio.current_time() - began, statuses)
            if page.status in (401, 403, 404):
                break
        await anyio.sleep(RETRY_S)
    figures = {"statuses": statuses}
    return Finding(
        name="start", outcome="failed", said=f"not ready: {why}", figures=figures
    )


def _started(page: Page, took_s: float, statuses: Sequence[int]) -> Finding:
    report = page.json()
    split = report.get("cold_start") or {}
    parts = [
        f"{name.removesuffix('_s')} {value:.1f} s"
        for name, value in split.items()
        if name.endswith("_s") and isinstance(value, int | float)
    ]
    of_start = f" (its last start: {', '.join(parts)})" if parts else ""
    return Finding(
        name="start",
        outcome="ok",
        said=f"ready after {took_s:.1f} s{of_start}",
        figures={
            "ready_after": round(took_s, 3),
            "statuses": list(statuses),
            "cold_start": split,
            "model": report.get("model"),
        },
    )


async def check_pages(plan: Plan) -> list[Finding]:
    """Look at the pages that balancers and autoscalers read."""
    findings = []
    for path in ("/livez", "/readyz", "/capacity", "/metrics"):
        name = path.strip("/")
        try:
            page = await get(plan.target, path, timeout_s=plan.answer_s)
        except Refused as exc:
            findings.append(Finding(name=name, outcome="failed", said=str(exc)))
            continue
        said, figures = f"HTTP {page.status}", {}
        if path == "/capacity":
            figures = page.json()
            said += f", {figures.get('used')} of {figures.get('total')} places used"
        good = page.status == 200 and (path != "/capacity" or "total" in figures)
        findings.append(
            Finding(
                name=name,
                outcome="ok" if good else "failed",
                said=said,
                figures=figures,
            )
        )
    return findings


async def check_close_codes(plan: Plan) -> Finding:
    """Make two mistakes on purpose; the codes must survive the way back."""
    try:
        async with open_stream(plan.target, timeout_s=plan.answer_s) as stream:
            await stream.until(lambda: bool(stream.of("ready")), plan.answer_s)
            await stream.send({"type": "nonsense"})
            told = await stream.until(lambda: bool(stream.of("error")), plan.answer_s)
            went_on = told and not stream.ended
            # Samples that are no numbers end a stream.
            await stream.send(np.full(FRAME_SAMPLES, np.nan, np.float32))
            await stream.until_ended(plan.answer_s)
            codes = [message.get("code") for _, message in stream.of("error")]
    except Refused as exc:
        return Finding(name="close-codes", outcome="failed", said=str(exc))
    good = went_on and codes == ["bad_control", "bad_audio"]
    lost = stream.code in (None, 1005, 1006)
    said = f"errors {codes}, close code {stream.code}"
    if good and lost:
        said += ": close codes are lost on the way, only the messages tell"
    return Finding(
        name="close-codes",
        outcome="failed" if not good else "noted" if lost else "ok",
        said=said,
        figures={"errors": codes, "code": stream.code},
    )
