# SPDX-License-Identifier: MIT
"""Media connections on machines without a network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["loopback_when_alone"]


@contextlib.contextmanager
def loopback_when_alone() -> Iterator[None]:
    """Let ICE use 127.0.0.1 on machines that have no other address.

    aioice never offers loopback addresses, so that two peers in a container
    without a network cannot meet. Within this context they can; where another
    address exists nothing changes. It replaces one function of aioice and so
    works for all of aiortc in this process, which is what two peers of one test
    need. `EmbeddedHpb` enters it by itself; a client in another process has to
    enter it too.
    """
    import aioice.ice

    original = aioice.ice.get_host_addresses

    def addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        found = original(use_ipv4, use_ipv6)
        return found or (["127.0.0.1"] if use_ipv4 else [])

    aioice.ice.get_host_addresses = addresses
    try:
        yield
    finally:
        # Contexts may overlap; the one that was entered last restores.
        if aioice.ice.get_host_addresses is addresses:
            aioice.ice.get_host_addresses = original
