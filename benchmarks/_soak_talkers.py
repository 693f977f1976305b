# SPDX-License-Identifier: MIT
"""The other side of the soak of the receive path, in a process of its own.

`python -m benchmarks._soak_talkers SPEAKERS LOSS` runs a stand-in Nextcloud, the
embedded HPB, and people who publish; prints where they are, lets everybody talk
until a line comes in, prints how many packets that were, and ends with the next line.
Signaling and connections are real. The packets, encoded once,
begin at the media server, as if the publishers had sent them: that halves what 64
people cost, and the receiver sees no difference.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import AsyncExitStack

import anyio
import anyio.lowlevel
import anyio.to_thread
from aiortc.rtp import RtpPacket

from spreed_signaling import InCallFlags, connect
from spreed_signaling.media import Call
from spreed_signaling.testing import EmbeddedHpb, StandInNextcloud
from spreed_signaling.testing.hpb.sfu_aiortc import ParkedTrack
from spreed_signaling.testing.hpb.sfu_peers import PublisherPeer

from ._opus import TICKS
from ._receive_sender import encode_clicks, only_loopback

__all__ = ["ROOM", "SECRET"]

ROOM = "demoroom"
SECRET = "the-internal-secret"
PACKET_S = 0.02


class Talk:
    """Sends the packets of everybody, spread over the 20 ms."""

    def __init__(self, hpb: EmbeddedHpb, payloads: list[bytes], loss: float) -> None:
        self._hpb = hpb
        self._payloads = payloads
        self._loss = loss
        self._rng = random.Random(1)
        self.sent = 0
        """Packets that went out to somebody."""

    def _publishers(self) -> list[PublisherPeer]:
        relay = self._hpb._relay
        assert relay is not None and relay.sfu is not None, "everybody has published"
        return list(relay.sfu._publishers.values())

    async def run(self) -> None:
        publishers = self._publishers()
        start = anyio.current_time()
        number = 0
        while True:
            # Late on a busy machine: rather slower than all at once, and never
            # without leaving the server its turn.
            start = max(start, anyio.current_time() - (number + 1) * PACKET_S)
            await anyio.lowlevel.checkpoint()
            for index, publisher in enumerate(publishers):
                due = start + (number + index / len(publishers)) * PACKET_S
                ahead = due - anyio.current_time()
                if ahead > 0.0005:
                    await anyio.sleep(ahead)
                if self._rng.random() >= self._loss:
                    await self._send(publisher, number, index)
            number += 1

    async def _send(self, publisher: PublisherPeer, number: int, index: int) -> None:
        # Everybody is at another place of the same recording.
        place = (number + 7 * index) % len(self._payloads)
        packet = RtpPacket(
            sequence_number=number & 0xFFFF,
            timestamp=number * TICKS & 0xFFFFFFFF,
            payload=self._payloads[place],
        )
        packet.extensions.audio_level = (True, 30)
        for subscriber in list(publisher.subscribers):
            if subscriber._connection.connectionState == "connected":
                self.sent += 1
            await subscriber.forward("audio", packet)


async def publish_all(
    stack: AsyncExitStack, nextcloud: StandInNextcloud, url: str, speakers: int
) -> None:
    enter = stack.enter_async_context
    for number in range(speakers):
        name = f"speaker{number}"
        member = nextcloud.add_member(ROOM, name, name)
        client = await enter(connect(url, member.auth))
        room = await enter(client.join(ROOM, nc_session_id=member.nc_session_id))
        call = await enter(Call(room))
        flags = InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO
        await nextcloud.join_call(member, flags=flags)
        publication = await call.publish(ParkedTrack("audio"))
        await publication.wait_connected(60)


async def main(speakers: int, loss: float) -> None:
    only_loopback()
    payloads = await anyio.to_thread.run_sync(encode_clicks)
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(StandInNextcloud())
        nextcloud.add_room(ROOM)
        hpb = await stack.enter_async_context(
            EmbeddedHpb(
                backend_url=nextcloud.url,
                backend_secret=nextcloud.backend_secret,
                internal_secret=SECRET,
            )
        )
        nextcloud.hpb_url = hpb.url
        await publish_all(stack, nextcloud, hpb.url, speakers)
        place = {"url": hpb.url, "nextcloud": nextcloud.url}
        print(json.dumps(place), flush=True)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        talk = Talk(hpb, payloads, loss)
        tasks.start_soon(talk.run)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        tasks.cancel_scope.cancel()
        print(talk.sent, flush=True)
        with anyio.CancelScope(shield=True):
            # The connections stay until everything has arrived.
            await anyio.to_thread.run_sync(sys.stdin.readline)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), float(sys.argv[2]))
