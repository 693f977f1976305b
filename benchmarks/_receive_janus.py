# SPDX-License-Identifier: MIT
"""A call through the real Janus whose talkers send Opus that was encoded before."""

from __future__ import annotations

import fractions
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.packet import Packet

from spreed_signaling import InCallFlags, InternalAuth, connect
from spreed_signaling.media import Call, Speaker
from spreed_signaling.testing import Site, open_site
from spreed_signaling.testing.real import RealServers

__all__ = ["ROOM", "EncodedTrack", "join", "open_call", "take_speakers"]

ROOM = "demoroom"

PACKET_S = 0.02

TICKS = 960

SPEAKING = InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO

JOIN_S = 30.0


class EncodedTrack(MediaStreamTrack):
    """Packets of 20 ms in real time, each as it is; none before `begin`.

    Args:
        payloads: Opus.
        count: Packets to send, beginning anew after the last; None is all once.
    """

    kind = "audio"

    def __init__(self, payloads: Sequence[bytes], count: int | None = None) -> None:
        super().__init__()
        self._payloads = payloads
        self._count = len(payloads) if count is None else count
        self._start = 0.0
        self._begun = anyio.Event()
        self._sent = 0
        self.sent_at: list[float] = []
        """When each packet went out, on the machine's clock."""
        self.finished = anyio.Event()
        """Set once all were sent."""

    def begin(self, delay_s: float = 0.0) -> None:
        """Send from now on, or a little later."""
        self._start = anyio.current_time() + delay_s
        self._begun.set()

    async def recv(self) -> Packet[Any]:
        """Return the next packet at its time (called by the sender)."""
        await self._begun.wait()
        if self._sent == self._count:
            self.finished.set()
            await anyio.sleep_forever()
        await anyio.sleep_until(self._start + self._sent * PACKET_S)
        if self.readyState != "live":
            raise MediaStreamError
        packet: Packet[Any] = Packet(self._payloads[self._sent % len(self._payloads)])
        packet.pts = self._sent * TICKS
        packet.time_base = fractions.Fraction(1, 48_000)
        self._sent += 1
        self.sent_at.append(time.monotonic())
        return packet


@asynccontextmanager
async def open_call(
    talkers: dict[str, EncodedTrack],
) -> AsyncGenerator[tuple[Site, str], None]:
    """Run HPB and Janus with these people in a call.

    Returns:
        The servers, and our address to which all media connections keep.

    Raises:
        RealServersUnavailable: If this machine cannot run them.
    """
    async with open_site("real", room_token=ROOM) as site, AsyncExitStack() as stack:
        server = site.server
        assert isinstance(server, RealServers), "asked for"
        stack.enter_context(server.pinned_ice())
        for name, track in talkers.items():
            await _attend(stack, site, name, track)
        yield site, server.host_address


async def _attend(
    stack: AsyncExitStack, site: Site, name: str, track: EncodedTrack
) -> None:
    enter, nextcloud = stack.enter_async_context, site.nextcloud
    member = nextcloud.add_member(ROOM, name.lower().replace(" ", "."), name)
    client = await enter(connect(site.server.url, member.auth))
    room = await enter(client.join(ROOM, nc_session_id=member.nc_session_id))
    call = await enter(Call(room))
    await nextcloud.join_call(member, flags=SPEAKING)
    publication = await call.publish(track)
    await publication.wait_connected()


@asynccontextmanager
async def join(url: str, backend_url: str, secret: str) -> AsyncGenerator[Call, None]:
    """Take part as a bot that listens."""
    auth = InternalAuth(secret=secret, backend_url=backend_url)
    async with (
        connect(url, auth) as client,
        client.join(ROOM) as room,
        Call(room) as call,
    ):
        yield call


async def take_speakers(call: Call, count: int) -> list[Speaker]:
    """Wait for so many speakers."""
    found: list[Speaker] = []
    with anyio.fail_after(JOIN_S):
        async for speaker in call.speakers():
            found.append(speaker)
            if len(found) == count:
                break
    return found
