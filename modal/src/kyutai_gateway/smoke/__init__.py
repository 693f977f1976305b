# SPDX-License-Identifier: MIT
"""The checklist for a gateway that was just deployed: `python -m kyutai_gateway.smoke`.

It looks from where a client stands: who is let in, how long a start takes, whether
words come, how fast the model is, how a stream ends. Words are counted and never
shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from ._checks import (
    check_address,
    check_close_codes,
    check_doors,
    check_pages,
    check_start,
)
from ._conversation import check_conversation, check_speed
from ._link import Target
from ._long import check_idle, check_rotation
from ._plan import Plan
from ._report import Finding, as_json, as_line, as_summary

__all__ = ["Finding", "Plan", "Target", "as_json", "as_line", "as_summary", "examine"]


async def examine(plan: Plan) -> AsyncIterator[Finding]:
    """Do all checks, one after the other; never raises for what it finds.

    What follows a failed start is not done: it would only fail again, slowly.
    """
    yield check_address(plan)
    for finding in await check_doors(plan):
        yield finding
    started = await check_start(plan)
    yield started
    if started.outcome == "failed":
        return
    for finding in [*await check_pages(plan), *await check_conversation(plan)]:
        yield finding
    yield await check_speed(plan)
    yield await check_close_codes(plan)
    yield await check_idle(plan)
    yield await check_rotation(plan)
