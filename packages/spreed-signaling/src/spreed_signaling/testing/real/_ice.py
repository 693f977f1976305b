# SPDX-License-Identifier: MIT
"""Keep a test's own WebRTC side to the one address that reaches Janus."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["own_host_addresses"]


@contextlib.contextmanager
def own_host_addresses(*addresses: str) -> Iterator[None]:
    """Offer only these addresses as ICE host candidates, in the whole process.

    A test helper: without it aioice offers every address of the machine, and
    connecting takes as long as the checks of the useless ones. It replaces
    `aioice.ice.get_host_addresses` and puts the original back at the end; aioice
    is imported here and nowhere else. Not to be nested from several tasks.

    Args:
        addresses: Own IPv4 or IPv6 addresses, such as `RealServers.host_address`.
    """
    from aioice import ice

    original = ice.get_host_addresses

    def pinned(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return [a for a in addresses if (use_ipv6 if ":" in a else use_ipv4)]

    ice.get_host_addresses = pinned
    try:
        yield
    finally:
        ice.get_host_addresses = original
