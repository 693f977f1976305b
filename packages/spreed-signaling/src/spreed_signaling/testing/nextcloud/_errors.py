# SPDX-License-Identifier: MIT
"""What can go wrong between the stand-in and an ExApp."""

from __future__ import annotations

from ...errors import SignalingError

__all__ = ["ExAppFailed", "ExAppUnreachable"]


class ExAppUnreachable(SignalingError):
    """The ExApp did not answer in time: what makes Talk answer OCS 500."""

    retryable = True

    def __init__(self, method: str, path: str, reason: str) -> None:
        super().__init__(method, path, reason)
        self.method = method
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"the ExApp did not answer {self.method} {self.path}: {self.reason}"


class ExAppFailed(SignalingError):
    """The ExApp refused a step of its lifecycle, so Nextcloud disables it."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(step, reason)
        self.step = step
        self.reason = reason

    def __str__(self) -> str:
        return f"the ExApp failed at {self.step}: {self.reason}"
