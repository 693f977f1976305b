# SPDX-License-Identifier: MIT
"""Servers to test a bot against (extra `[testing]`).

`EmbeddedHpb` needs nothing but Python; `testing.real` runs the real servers from
Debian's packages; `StandInNextcloud` plays Talk and AppAPI for either.
"""

from .hpb import EmbeddedHpb
from .nextcloud import Member, StandInNextcloud
from .servers import ServerKind, SignalingServer, Site, open_server, open_site

__all__ = [
    "EmbeddedHpb",
    "Member",
    "ServerKind",
    "SignalingServer",
    "Site",
    "StandInNextcloud",
    "open_server",
    "open_site",
]
