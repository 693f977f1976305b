"""How media ends, and what runs on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time

import anyio

from spreed_signaling.testing.hpb import EmbeddedHpb
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from ..raw_client import RawClient, raw_client
from .peers import Publisher, reach, subscribed


class TestEnds:
    async def test_leaving_the_call_ends_the_media_silently(
        self,
        speaking: Publisher,
        bot: RawClient,
        alice: Member,
        nextcloud: StandInNextcloud,
    ) -> None:
        async with subscribed(bot, speaking) as subscriber:
            await subscriber.count(3)
            await nextcloud.leave_call(alice)
            await reach(speaking.connection, "closed")
            assert subscriber.connection.connectionState == "connected"
            seen = len(subscriber.packets)
            await anyio.sleep(0.2)
            assert len(subscriber.packets) == seen
            # A known subscription to somebody without media fails differently.
            again = await bot.request_offer(subscriber.publisher_id)
            assert await bot.error(again) == "processing_failed"

    async def test_republishing_after_closing(
        self, speaking: Publisher, bot: RawClient
    ) -> None:
        async with subscribed(bot, speaking):
            pass
        await speaking.connection.close()
        second = Publisher(speaking.client)
        answer = await second.publish(sid="5678")
        assert answer["message"]["data"]["sid"] == "5678"
        await second.connect()
        async with subscribed(bot, second) as subscriber:
            await subscriber.count(3)
        await second.connection.close()

    async def test_media_runs_on_while_the_socket_is_down(
        self, hpb: EmbeddedHpb, speaking: Publisher, bot: RawClient
    ) -> None:
        async with subscribed(bot, speaking) as subscriber:
            await hpb.drop_connections()
            await subscriber.more()
            # Both sessions expire; then both connections end.
            await reach(subscriber.connection, "closed")
            await reach(speaking.connection, "closed")
        assert hpb.sessions == ()

    async def test_server_ends_quickly_with_living_peers(
        self, nextcloud: StandInNextcloud, alice: Member
    ) -> None:
        async with contextlib.AsyncExitStack() as stack:
            hpb = EmbeddedHpb(
                backend_url=nextcloud.url,
                backend_secret=nextcloud.backend_secret,
                internal_secret="",
            )
            async with hpb:
                client = await stack.enter_async_context(raw_client(hpb))
                await client.hello_member(alice)
                await client.join(alice)
                publisher = Publisher(client)
                await publisher.publish()
                await publisher.connect()
                begin = time.monotonic()
            assert time.monotonic() - begin < 2
            assert await client.close_code() == 1006
            await reach(publisher.connection, "closed")
            await publisher.connection.close()

    async def test_nothing_is_left_behind(
        self, nextcloud: StandInNextcloud, alice: Member
    ) -> None:
        async def call() -> None:
            async with (
                EmbeddedHpb(
                    backend_url=nextcloud.url,
                    backend_secret=nextcloud.backend_secret,
                    internal_secret="the-internal-secret",
                ) as hpb,
                raw_client(hpb) as client,
                raw_client(hpb) as bot,
            ):
                await client.hello_member(alice)
                await client.join(alice)
                publisher = Publisher(client)
                await publisher.publish()
                await publisher.connect()
                await bot.hello_internal(backend=nextcloud.url)
                async with subscribed(bot, publisher) as subscriber:
                    await subscriber.count(1)
                await publisher.connection.close()
                # A waiting request must not hold up the end either.
                await bot.request_offer(client.session_id)

        def left() -> tuple[int, int, int]:
            descriptors = len(os.listdir("/proc/self/fd"))
            return len(asyncio.all_tasks()), threading.active_count(), descriptors

        await call()
        before = left()
        await call()
        with anyio.move_on_after(2):
            # Nothing tells when uvicorn and aiortc have let go of the last bits.
            while left() > before:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert left() <= before
