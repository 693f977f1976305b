# SPDX-License-Identifier: MIT
"""Why the real moshi-server cannot run, or did not."""

from __future__ import annotations

from ...errors import KyutaiStreamError

__all__ = ["MoshiServerUnavailable", "ServerStartFailed"]


class MoshiServerUnavailable(KyutaiStreamError):
    """This machine has no real moshi-server; `reason` says why in plain words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"no real moshi-server here: {self.reason}"


class ServerStartFailed(KyutaiStreamError):
    """The server ended or stayed silent; `log_tail` holds its last lines."""

    def __init__(self, reason: str, log_tail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.log_tail = log_tail

    def __str__(self) -> str:
        log = self.log_tail or "(its log is empty)"
        return f"moshi-server did not start: {self.reason}. End of its log:\n{log}"
