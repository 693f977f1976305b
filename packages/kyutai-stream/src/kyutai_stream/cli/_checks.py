# SPDX-License-Identifier: MIT
"""What the doctor's checks find, and what can be told from an address alone."""

from __future__ import annotations

from typing import Literal, Protocol
from urllib.parse import urlsplit

from attrs import frozen

from ..errors import BackendUnavailable, ConfigError, ConnectFailed, ConnectionLost
from ._failures import advice

__all__ = ["MARKS", "Check", "Note", "Verdict", "fix_of", "is_bare", "problem_of"]

Verdict = Literal["ok", "failed", "remark", "skipped"]

MARKS: dict[Verdict, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "failed": ("FAILED", "bold red"),
    "remark": ("note", "yellow"),
    "skipped": ("-", "dim"),
}


@frozen(kw_only=True)
class Check:
    """What one step found."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


class Note(Protocol):
    """Takes what was found."""

    def __call__(
        self, name: str, verdict: Verdict, found: str, fix: str = ""
    ) -> None: ...


def fix_of(error: Exception) -> str:
    """Say what to do about an error of this check."""
    # The general advice would be to run what is running.
    if isinstance(error, ConfigError):
        return "check --url and --set"
    if isinstance(error, ConnectFailed):
        return "is the server running, and is --url its address?"
    if isinstance(error, ConnectionLost):
        return "look into the server's log"
    return "" if isinstance(error, BackendUnavailable) else advice(error)


def problem_of(url: str) -> str | None:
    """Say what is wrong with an address; None if it looks right."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        return "the address has a wrong host or port"
    if parts.scheme not in ("ws", "wss", "http", "https"):
        return "the address must begin with ws:// or wss://"
    if not host or port == 0 or any(c.isspace() for c in url):
        return "the address has no host, or a space in it"
    if any(len(label) > 63 for label in host.split(".")):
        return "a part of the host name is longer than 63 characters"
    return None


def is_bare(url: str) -> bool:
    """Whether it leads to another machine without encryption."""
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme in ("ws", "http") and not local
