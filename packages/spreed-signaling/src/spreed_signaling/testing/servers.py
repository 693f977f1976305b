# SPDX-License-Identifier: MIT
"""One shape for all signaling servers, and one way to get any of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, Protocol

from attrs import frozen

from .nextcloud import StandInNextcloud

__all__ = ["ServerKind", "SignalingServer", "Site", "open_server", "open_site"]

_log = logging.getLogger(__name__)

ServerKind = Literal["real", "embedded", "auto"]
"""`auto` is the real one where it can be had, else the embedded one."""


class SignalingServer(Protocol):
    """What `EmbeddedHpb` and `RealServers` have in common."""

    @property
    def kind(self) -> Literal["real", "embedded"]:
        """Which of the two it is."""

    @property
    def url(self) -> str:
        """Base URL; clients append `/spreed`."""

    @property
    def version(self) -> str:
        """What the server reports about itself."""

    @property
    def internal_secret(self) -> str:
        """Secret of internal clients."""


@asynccontextmanager
async def open_server(
    kind: ServerKind,
    *,
    backend_url: str,
    backend_secret: str,
    internal_secret: str = "the-internal-secret",
    port: int = 0,
    on_fallback: Callable[[str], None] = _log.warning,
) -> AsyncIterator[SignalingServer]:
    """Run a signaling server with an SFU for the length of the block.

    Args:
        kind: Which server.
        backend_url: Base URL of the (stand-in) Nextcloud.
        backend_secret: Secret shared with it.
        internal_secret: Secret of internal clients.
        port: Port on 127.0.0.1; 0 chooses a free one.
        on_fallback: Called with the reason when `auto` takes the embedded server.

    Raises:
        RealServersUnavailable: If `kind` is `real` and it cannot be had.
    """
    if kind != "embedded":
        from .real import RealServers, RealServersUnavailable, prepare

        try:
            await prepare(("sid",))
        except RealServersUnavailable as exc:
            if kind == "real":
                raise
            on_fallback(str(exc))
        else:
            async with RealServers(
                backend_url=backend_url,
                backend_secret=backend_secret,
                internal_secret=internal_secret,
                port=port,
            ) as real:
                yield real
            return
    from .hpb import EmbeddedHpb

    async with EmbeddedHpb(
        backend_url=backend_url,
        backend_secret=backend_secret,
        internal_secret=internal_secret,
        port=port,
    ) as embedded:
        yield embedded


@frozen(kw_only=True)
class Site:
    """A stand-in Nextcloud with a signaling server."""

    nextcloud: StandInNextcloud
    server: SignalingServer


@asynccontextmanager
async def open_site(
    kind: ServerKind = "embedded",
    *,
    room_token: str = "demoroom",
    on_fallback: Callable[[str], None] = _log.warning,
) -> AsyncIterator[Site]:
    """Run a stand-in Nextcloud and a signaling server that know each other.

    Args:
        kind: Which signaling server.
        room_token: A room that exists from the start.
        on_fallback: See `open_server`.

    Raises:
        RealServersUnavailable: If `kind` is `real` and it cannot be had.
    """
    async with StandInNextcloud() as nextcloud:
        nextcloud.add_room(room_token)
        async with open_server(
            kind,
            backend_url=nextcloud.url,
            backend_secret=nextcloud.backend_secret,
            on_fallback=on_fallback,
        ) as server:
            nextcloud.hpb_url = server.url
            yield Site(nextcloud=nextcloud, server=server)
