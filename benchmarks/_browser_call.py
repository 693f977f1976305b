# SPDX-License-Identifier: MIT
"""A call on the real servers with a browser that publishes and a client of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from attrs import frozen

from spreed_signaling import Client, InternalAuth, Room, connect
from spreed_signaling.testing import StandInNextcloud
from spreed_signaling.testing.browser import BrowserPublisher, Negotiated
from spreed_signaling.testing.real import RealServers

from ._browser_probe import open_relay

__all__ = ["BrowserCall", "Job", "browser_call"]

ROOM = "demoroom"


@frozen(kw_only=True)
class Job:
    """What the browser does."""

    speech: Path
    speech_s: float
    pause_s: float = 3.0
    """Of each phase without speech."""
    processing: bool = True
    dtx: bool = False
    loss: float = 0.0
    """Share of the packets lost between browser and Janus."""


@frozen(kw_only=True)
class BrowserCall:
    """A call with a browser that publishes and with our client."""

    browser: BrowserPublisher
    negotiated: Negotiated
    server: RealServers
    client: Client
    room: Room


@asynccontextmanager
async def browser_call(job: Job) -> AsyncIterator[BrowserCall]:
    """Start servers and browser, publish, and join the call.

    Raises:
        BrowserUnavailable: If there is no browser.
        RealServersUnavailable: If the real servers cannot run here.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        nextcloud = await enter(StandInNextcloud())
        nextcloud.add_room(ROOM)
        alice = nextcloud.add_member(ROOM, "alice", "Alice")
        secret = nextcloud.backend_secret
        server = await enter(
            RealServers(backend_url=nextcloud.url, backend_secret=secret)
        )
        nextcloud.hpb_url = server.url
        relay = await enter(open_relay(job.loss, server.host_address))
        browser = await enter(
            BrowserPublisher(
                server.url,
                alice,
                job.speech,
                processing=job.processing,
                dtx=job.dtx,
                reroute=relay.reroute if job.loss else None,
            )
        )
        await nextcloud.join_call(alice)
        negotiated = await browser.publish()
        stack.enter_context(server.pinned_ice())
        auth = InternalAuth(secret=server.internal_secret, backend_url=nextcloud.url)
        client = await enter(connect(server.url, auth))
        yield BrowserCall(
            browser=browser,
            negotiated=negotiated,
            server=server,
            client=client,
            room=await enter(client.join(ROOM)),
        )
