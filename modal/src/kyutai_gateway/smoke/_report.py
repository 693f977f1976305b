# SPDX-License-Identifier: MIT
"""What the checks found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import asdict, field, frozen

__all__ = ["Finding", "Outcome", "as_json", "as_line", "as_summary"]

Outcome = Literal["ok", "failed", "skipped", "noted"]
"""`noted` tells a figure or a behaviour that is neither right nor wrong."""


@frozen(kw_only=True)
class Finding:
    """What one check found."""

    name: str
    """Of the check."""
    outcome: Outcome
    said: str
    """In plain words; never a word of what was recognised."""
    figures: Mapping[str, object] = field(factory=dict)
    """Measured; seconds unless the name says otherwise."""


def as_line(finding: Finding) -> str:
    """Return one line for people."""
    return f"{finding.outcome:8}{finding.name:14}{finding.said}"


def as_summary(findings: Sequence[Finding]) -> str:
    """Return the last line for people."""
    failed = [one.name for one in findings if one.outcome == "failed"]
    if failed:
        return f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}"
    skipped = sum(one.outcome == "skipped" for one in findings)
    return f"all well, {skipped} of {len(findings)} checks skipped"


def as_json(findings: Sequence[Finding], *, url: str, at: str) -> str:
    """Return all as one JSON document.

    Args:
        findings: Of all checks.
        url: Which gateway.
        at: When, ISO 8601.
    """
    checks = [asdict(one) for one in findings]
    good = not any(one.outcome == "failed" for one in findings)
    return json.dumps({"url": url, "at": at, "ok": good, "checks": checks}, indent=2)
