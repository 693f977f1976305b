# SPDX-License-Identifier: MIT
"""The signaling server's HTTP side: its room API, and what it says about itself.

`RoomApi` is the part that Nextcloud plays towards the server: services that know
the backend secret can report call states and send messages with it. Needs the
extra `[http]`.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Rooms" and
    "Backend requests".
"""

from ._info import ServerWelcome, server_info, welcome
from ._requests import http_base_url
from ._room_api import RoomApi

__all__ = ["RoomApi", "ServerWelcome", "http_base_url", "server_info", "welcome"]
