# SPDX-License-Identifier: MIT
"""Real servers for tests and demos: nextcloud-spreed-signaling and Janus.

`RealServers` has the same shape as `EmbeddedHpb`, so that a test can run against
both. The servers are Debian packages; `python -m spreed_signaling.testing.real
prepare` fetches them ahead of time.
"""

from __future__ import annotations

from ._errors import RealServersUnavailable, ServerStartFailed
from ._ice import own_host_addresses
from ._packages import unavailable_reason
from ._servers import HPB_SUITES, RealServers, prepare

__all__ = [
    "HPB_SUITES",
    "RealServers",
    "RealServersUnavailable",
    "ServerStartFailed",
    "own_host_addresses",
    "prepare",
    "unavailable_reason",
]
