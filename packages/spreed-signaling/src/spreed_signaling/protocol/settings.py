# SPDX-License-Identifier: MIT
"""Talk's signaling settings: where the server is, how to get in, ICE servers.

This module has no HTTP client: the application asks Nextcloud, for example with
`nc_py_api`, and hands the answer's `ocs.data` over.

Source:
    `GET /ocs/v2.php/apps/spreed/api/v3/signaling/settings`; keys measured with
    Talk 21.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from ..types import IceServer
from .auth import TicketAuth, TokenAuth, backend_endpoint

__all__ = ["SignalingSettings", "parse_settings"]


@frozen(kw_only=True)
class SignalingSettings:
    """What a client needs to know before it connects.

    TURN credentials and the token are short-lived (a token lives for about a
    minute): ask again for every connection instead of keeping this.
    """

    server_url: str | None = None
    """The signaling server; None if Talk has none (mode `internal`)."""
    signaling_mode: str = ""
    """`external` with a signaling server, `internal` without one."""
    user_id: str = ""
    """Whose settings these are; empty for guests and services."""
    stun_servers: tuple[IceServer, ...] = ()
    turn_servers: tuple[IceServer, ...] = ()
    ticket: str | None = field(default=None, repr=False)
    """For a hello of version 1."""
    token: str | None = field(default=None, repr=False)
    """For a hello of version 2."""

    @property
    def ice_servers(self) -> tuple[IceServer, ...]:
        """STUN and TURN servers together, for a peer connection."""
        return self.stun_servers + self.turn_servers

    def auth(self, nextcloud_url: str) -> TokenAuth | TicketAuth | None:
        """Return how to say hello: with the token, else the ticket.

        Args:
            nextcloud_url: Nextcloud's base URL (scheme, host, webroot).

        Returns:
            None if the settings hold neither, which is so for services: these
            use `InternalAuth`.
        """
        url = backend_endpoint(nextcloud_url)
        if self.token:
            return TokenAuth(url=url, token=self.token)
        if self.ticket:
            return TicketAuth(url=url, user_id=self.user_id, ticket=self.ticket)
        return None


def parse_settings(data: Any) -> SignalingSettings:
    """Read the `ocs.data` of Talk's answer; what is missing or odd is left out.

    Never raises: the settings are a help, and calls often work without them.
    """
    known = _mapping(data)
    versions = _mapping(known.get("helloAuthParams"))
    first, second = _mapping(versions.get("1.0")), _mapping(versions.get("2.0"))
    return SignalingSettings(
        server_url=_text(known.get("server")),
        signaling_mode=_text(known.get("signalingMode")) or "",
        user_id=_text(known.get("userId")) or _text(first.get("userid")) or "",
        stun_servers=_servers(known.get("stunservers")),
        turn_servers=_servers(known.get("turnservers")),
        ticket=_text(first.get("ticket")) or _text(known.get("ticket")),
        token=_text(second.get("token")),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    # PHP writes an empty map as `[]`.
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _servers(value: Any) -> tuple[IceServer, ...]:
    entries = value if isinstance(value, list) else []
    servers = (_server(_mapping(entry)) for entry in entries)
    return tuple(server for server in servers if server is not None)


def _server(entry: Mapping[str, Any]) -> IceServer | None:
    urls = entry.get("urls")
    listed = urls if isinstance(urls, list) else [urls]
    found = tuple(url for url in listed if isinstance(url, str) and url)
    if not found:
        return None
    return IceServer(
        urls=found,
        username=_text(entry.get("username")),
        credential=_text(entry.get("credential")),
    )
