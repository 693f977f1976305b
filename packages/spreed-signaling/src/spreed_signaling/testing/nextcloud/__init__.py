# SPDX-License-Identifier: MIT
"""A Nextcloud for tests and demos: Talk and AppAPI without a server."""

from __future__ import annotations

from ._endpoints import TalkSettings
from ._errors import ExAppFailed, ExAppUnreachable
from ._exapp import ExApp
from ._requests import ReceivedRequest
from ._server import StandInNextcloud
from ._state import DEFAULT_PERMISSIONS, Member

__all__ = [
    "DEFAULT_PERMISSIONS",
    "ExApp",
    "ExAppFailed",
    "ExAppUnreachable",
    "Member",
    "ReceivedRequest",
    "StandInNextcloud",
    "TalkSettings",
]
