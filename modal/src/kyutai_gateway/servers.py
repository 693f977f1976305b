# SPDX-License-Identifier: MIT
"""The model server that the settings ask for."""

from __future__ import annotations

from .attached import AttachedServer
from .settings import GatewaySettings
from .supervisor import SupervisedServer

__all__ = ["server_for"]


def server_for(settings: GatewaySettings) -> SupervisedServer | AttachedServer:
    """Return it, not running yet: use it as `async with`, or call `run`."""
    if settings.attached:
        return AttachedServer(settings)
    return SupervisedServer(settings)
