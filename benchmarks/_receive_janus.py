# SPDX-License-Identifier: MIT
"""A call through the real Janus whose talkers send Opus that was encoded before."""

from __future__ import annotations

import fractions
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from attrs import field, frozen
from av.packet import Packet

from spreed_signaling import InCallFlags, InternalAuth, connect
from spreed_signaling.media import Call, Speaker
from spreed_signaling.testing import Site, open_site
from spreed_signaling.testing.real import RealServers

from ._opus import TICKS
from ._receive_case import why_not
from ._receive_sender import PACKET_S

__all__ = [
    "EncodedTrack",
    "JanusCall",
    "join",
    "leave_out_missing",
    "open_call",
    "take_speakers",
]

ROOM = "demoroom"

SPEAKING = InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO

JOIN_S = 30.0


def leave_out_missing(paths: list[str]) -> None:
    """Take a path out, and say so, whose library is not installed."""
    for path in list(paths):
        if (reason := why_not(path)) is not None:
            print(f"{path} is left out: {reason}", file=sys.stderr)
            paths.remove(path)


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


@frozen(kw_only=True)
class JanusCall:
    """The servers, and who talks."""

    url: str
    """Of the signaling server."""
    backend_url: str
    """Of the Nextcloud behind it."""
    secret: str = field(repr=False)
    """Of bots."""
    host_address: str
    """Ours, to which all media connections keep."""
    talkers: dict[str, str]
    """Names by session id: events may tell of people before they tell their names."""


@asynccontextmanager
async def open_call(
    tracks: dict[str, EncodedTrack],
) -> AsyncGenerator[JanusCall, None]:
    """Run HPB and Janus with people of these names in a call.

    Raises:
        RealServersUnavailable: If this machine cannot run them.
    """
    async with open_site("real", room_token=ROOM) as site, AsyncExitStack() as stack:
        server = site.server
        assert isinstance(server, RealServers), "asked for"
        stack.enter_context(server.pinned_ice())
        talkers: dict[str, str] = {}
        for name, track in tracks.items():
            talkers[await _attend(stack, site, name, track)] = name
        yield JanusCall(
            url=server.url,
            backend_url=site.nextcloud.url,
            secret=server.internal_secret,
            host_address=server.host_address,
            talkers=talkers,
        )


async def _attend(
    stack: AsyncExitStack, site: Site, name: str, track: EncodedTrack
) -> str:
    """Publish; returns the session id."""
    enter, nextcloud = stack.enter_async_context, site.nextcloud
    member = nextcloud.add_member(ROOM, name.lower().replace(" ", "."), name)
    client = await enter(connect(site.server.url, member.auth))
    room = await enter(client.join(ROOM, nc_session_id=member.nc_session_id))
    call = await enter(Call(room))
    await nextcloud.join_call(member, flags=SPEAKING)
    publication = await call.publish(track)
    await publication.wait_connected()
    assert client.session_id is not None, "in a call"
    return client.session_id


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


async def take_speakers(call: Call, session_ids: Iterable[str]) -> list[Speaker]:
    """Wait for these speakers; in the order asked for."""
    wanted = list(session_ids)
    found: dict[str, Speaker] = {}
    with anyio.fail_after(JOIN_S):
        async for speaker in call.speakers():
            found[speaker.session_id] = speaker
            if found.keys() >= set(wanted):
                break
    return [found[one] for one in wanted]
