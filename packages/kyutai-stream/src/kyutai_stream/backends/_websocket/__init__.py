# SPDX-License-Identifier: MIT
"""What the websocket backends share; no backend itself."""

from __future__ import annotations

from ._dial import DialOptions, Ended, Socket, dial
from ._endpoints import Endpoints, check_language
from ._page import page_status
from ._reader import EventReader, Machine

__all__ = [
    "DialOptions",
    "Ended",
    "Endpoints",
    "EventReader",
    "Machine",
    "Socket",
    "check_language",
    "dial",
    "page_status",
]
