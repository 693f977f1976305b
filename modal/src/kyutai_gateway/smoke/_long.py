# SPDX-License-Identifier: MIT
"""The checks that take minutes, or hours; only done when asked for."""

from __future__ import annotations

import anyio

from ._link import Refused, Stream, open_stream
from ._plan import Plan
from ._report import Finding

__all__ = ["check_idle", "check_rotation"]

KEEPALIVE_S = 15.0


async def check_idle(plan: Plan) -> Finding:
    """Hold a stream in which nobody speaks: does anything on the way cut it?"""
    if not plan.idle_s:
        said = "ask for it with --idle-s 310"
        return Finding(name="idle", outcome="skipped", said=said)
    try:
        async with open_stream(plan.target, timeout_s=plan.answer_s) as stream:
            held_s = await _hold(stream, plan.idle_s, stop_at_notice=False)
            pings = len(stream.of("ping"))
            cut, code = stream.ended, stream.code
    except Refused as exc:
        return Finding(name="idle", outcome="failed", said=str(exc))
    how = f"cut after {held_s:.0f} s, code {code}" if cut else f"held {held_s:.0f} s"
    return Finding(
        name="idle",
        outcome="failed" if cut else "ok",
        said=f"{how}, {pings} pings came",
        figures={"held": round(held_s, 1), "pings": pings, "code": code},
    )


async def check_rotation(plan: Plan) -> Finding:
    """Wait until the gateway asks a stream to reconnect, before the platform cuts."""
    if not plan.rotation_s:
        said = "ask for it with --rotation-s, longer than the platform's limit"
        return Finding(name="rotation", outcome="skipped", said=said)
    try:
        async with open_stream(plan.target, timeout_s=plan.answer_s) as stream:
            after_s = await _hold(stream, plan.rotation_s, stop_at_notice=True)
            notices = stream.of("draining")
            deadline_s = float(notices[0][1].get("deadline_s", 0)) if notices else 0.0
            await stream.until_ended(deadline_s + plan.answer_s if notices else 0)
            code = stream.code
    except Refused as exc:
        return Finding(name="rotation", outcome="failed", said=str(exc))
    figures = {"after": round(after_s, 1), "notice": deadline_s, "code": code}
    if not notices:
        said = f"no notice within {after_s:.0f} s, close code {code}"
        return Finding(name="rotation", outcome="failed", said=said, figures=figures)
    said = f"told after {after_s:.0f} s, {deadline_s:g} s ahead, close code {code}"
    return Finding(
        name="rotation",
        outcome="ok" if code == 1012 else "noted",
        said=said,
        figures=figures,
    )


async def _hold(stream: Stream, for_s: float, *, stop_at_notice: bool) -> float:
    """Keep a stream open without audio; returns how long it was."""
    began = anyio.current_time()
    while (left_s := began + for_s - anyio.current_time()) > 0:

        def over() -> bool:
            return stop_at_notice and bool(stream.of("draining"))

        if await stream.until(over, min(KEEPALIVE_S, left_s)) or stream.ended:
            break
        await stream.send(b"")
    return anyio.current_time() - began
