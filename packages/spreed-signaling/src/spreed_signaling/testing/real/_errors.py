# SPDX-License-Identifier: MIT
"""Why the real servers cannot run, or did not."""

from __future__ import annotations

from ...errors import SignalingError

__all__ = ["RealServersUnavailable", "ServerStartFailed"]


class RealServersUnavailable(SignalingError):
    """This machine cannot run the real servers; `reason` says why in plain words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"no real signaling server here: {self.reason}"


class ServerStartFailed(SignalingError):
    """A server process ended or stayed silent; `log_tail` holds its last lines."""

    def __init__(self, name: str, reason: str, log_tail: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason
        self.log_tail = log_tail

    def __str__(self) -> str:
        log = self.log_tail or "(its log is empty)"
        return f"{self.name} did not start: {self.reason}. End of its log:\n{log}"
