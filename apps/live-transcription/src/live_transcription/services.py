# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a call uses of the process it runs in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from attrs import field, frozen

from kyutai_stream import Backend
from spreed_signaling import IceServer

from .config import Settings
from .gate import Gate

__all__ = ["CallServices"]


@frozen(kw_only=True)
class CallServices:
    """Shared by all calls; none of it belongs to one."""

    settings: Settings
    backend: Backend
    places: anyio.CapacityLimiter
    """One token for each speaker who may be transcribed at the same time."""
    ice_servers: Callable[[], Awaitable[tuple[IceServer, ...]]] = field(repr=False)
    """Asked once for each call; never raises, bounded."""
    gate: Gate
    """Who may try while the signaling server refuses us."""
