"""A session on the real server: what it hears proves that nothing is lost.

The few cases here are for the real server's own ways to fail; every cut point and
long outages run against the fake, in virtual time.
"""

from __future__ import annotations

import math
import random

import anyio
import pytest

from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.testing.chaos import ChaosError, caption
from kyutai_stream.testing.real import RealMoshiServer
from kyutai_stream.testing.real.link import Link, open_link
from kyutai_stream.testing.real.raw import open_raw
from kyutai_stream.testing.tones import speak

pytestmark = [pytest.mark.moshi, pytest.mark.timeout(240)]

SPOKEN = speak(
    "alpha bravo charlie delta. echo foxtrot golf hotel india. juliett kilo lima",
    lead_s=0.3,
)


def backend_for(
    server: RealMoshiServer, link: Link | None = None
) -> MoshiServerBackend:
    url = server.url if link is None else link.url_of(server.url)
    return MoshiServerBackend(url=url, api_key=server.api_key)


async def test_a_quiet_day(listening: RealMoshiServer) -> None:
    heard = await caption(backend_for(listening), SPOKEN)
    heard.require_whole(SPOKEN)
    await listening.wait_used_slots(0)


@pytest.mark.parametrize("frame", [0, 9, 26, 47, 61])
async def test_a_cut_at_a_frame(listening: RealMoshiServer, frame: int) -> None:
    async with open_link(listening.port) as link:
        link.cut_after_frames(frame)
        heard = await caption(backend_for(listening, link), SPOKEN)
        assert link.connections == 2
    heard.require_whole(SPOKEN)
    assert heard.metrics is not None
    assert heard.metrics.usage.audio_pushed_s == pytest.approx(SPOKEN.duration_s)
    await listening.wait_used_slots(0)


TWENTY = speak(
    "alpha bravo charlie delta echo. foxtrot golf hotel india juliett. "
    "kilo lima mike november oscar. papa quebec romeo sierra tango",
    lead_s=0.2,
    gap_s=0.1,
    sentence_pause_s=0.4,
)
FRAMES = math.ceil(TWENTY.duration_s / 0.08) + 9
"""Frames of the utterance and of the silence that flushes it."""
EVERY = 3
FIRST = random.randrange(EVERY)
"""A run takes every third place, another third each time: all of them take ten
minutes on two cores."""
LEAST_CUTS = 25
AT_A_TIME = 3
"""A session that falls behind the busy CPU leaves out silence, so that its last frames
are never sent and no cut comes about there."""


@pytest.mark.timeout(1500)
async def test_a_cut_at_every_third_frame(moshi_ready: None) -> None:
    """As against the fake; several at a time, as many as the CPU can do live."""
    waiting = list(range(FIRST, FRAMES, EVERY))
    cuts = 0

    async def cut_one_after_the_other(server: RealMoshiServer) -> None:
        nonlocal cuts
        while waiting:
            frame = waiting.pop()
            async with open_link(server.port) as link:
                link.cut_after_frames(frame)
                heard = await caption(backend_for(server, link), TWENTY)
                cuts += link.connections - 1
            try:
                heard.require_whole(TWENTY)
            except ChaosError as error:
                raise AssertionError(f"cut at frame {frame}: {error}") from error

    async with RealMoshiServer(batch_size=AT_A_TIME, model="listen") as server:
        async with anyio.create_task_group() as tasks:
            for _ in range(AT_A_TIME):
                tasks.start_soon(cut_one_after_the_other, server)
        await server.wait_used_slots(0)
    assert cuts >= LEAST_CUTS


async def test_cut_again_and_again(listening: RealMoshiServer) -> None:
    async with open_link(listening.port) as link:
        link.cut_after_frames(12, 20, 8, 30)
        heard = await caption(backend_for(listening, link), SPOKEN)
    heard.require_whole(SPOKEN)
    await listening.wait_used_slots(0)


async def test_the_server_dies_and_comes_back(listening: RealMoshiServer) -> None:
    async def trouble() -> None:
        await listening.kill()
        await anyio.sleep(1.5)
        await listening.start()

    heard = await caption(
        backend_for(listening), SPOKEN, trouble=trouble, trouble_at_s=2.2
    )
    heard.require_whole(SPOKEN)
    await listening.wait_used_slots(0)


async def test_the_server_hangs_for_a_while(listening: RealMoshiServer) -> None:
    async def trouble() -> None:
        listening.pause()
        await anyio.sleep(4.0)
        listening.resume()

    heard = await caption(
        backend_for(listening), SPOKEN, trouble=trouble, trouble_at_s=2.2
    )
    heard.require_whole(SPOKEN)
    await listening.wait_used_slots(0)


async def test_the_server_is_full_for_a_while(listening: RealMoshiServer) -> None:
    url, key = listening.url, listening.api_key
    async with anyio.create_task_group() as tasks:
        leave = anyio.Event()

        async def others() -> None:
            async with open_raw(url, key), open_raw(url, key):
                await leave.wait()

        async def trouble() -> None:
            leave.set()

        tasks.start_soon(others)
        await listening.wait_used_slots(2)
        heard = await caption(
            backend_for(listening), SPOKEN, trouble=trouble, trouble_at_s=3.0
        )
    heard.require_whole(SPOKEN)
    await listening.wait_used_slots(0)
