# SPDX-License-Identifier: MIT
"""Sessions for applications: `connect`, `Client` and `Room`.

A client stays itself while sockets come and go: reconnecting is a state that
`Client.status` tells about, not an error that ends it. Everything here belongs to
one event loop; methods without `await` never block.
"""

from ._client import Client, ClientOptions, connect
from ._room import Room

__all__ = ["Client", "ClientOptions", "Room", "connect"]
