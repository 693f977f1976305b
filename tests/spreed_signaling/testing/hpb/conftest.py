"""A stand-in Nextcloud with two members, and the embedded server before it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from spreed_signaling.testing.hpb import EmbeddedHpb, HpbOptions
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from .raw_client import SECRET, TOKEN, RawClient, raw_client


@pytest.fixture
async def nextcloud() -> AsyncIterator[StandInNextcloud]:
    async with StandInNextcloud() as nextcloud:
        nextcloud.add_room(TOKEN)
        yield nextcloud


@pytest.fixture
def alice(nextcloud: StandInNextcloud) -> Member:
    return nextcloud.add_member(TOKEN, "alice", "Alice")


@pytest.fixture
def bob(nextcloud: StandInNextcloud) -> Member:
    return nextcloud.add_member(TOKEN, "bob", "Bob")


@pytest.fixture
def options() -> HpbOptions:
    """Shortened timings; a test class may override this fixture.

    Those that end a silent connection stay at 2 s: a busy machine may keep a test from
    speaking for half a second.
    """
    return HpbOptions(
        join_timeout_s=2.0,
        resume_window_s=0.5,
        publisher_wait_s=0.6,
        throttle_first_s=0.01,
    )


@pytest.fixture
async def hpb(
    nextcloud: StandInNextcloud, options: HpbOptions
) -> AsyncIterator[EmbeddedHpb]:
    async with EmbeddedHpb(
        backend_url=nextcloud.url,
        backend_secret=nextcloud.backend_secret,
        internal_secret=SECRET,
        options=options,
    ) as hpb:
        nextcloud.hpb_url = hpb.url
        yield hpb


@pytest.fixture
async def bot(
    hpb: EmbeddedHpb, nextcloud: StandInNextcloud
) -> AsyncIterator[RawClient]:
    """An internal client in the room and in the call."""
    async with raw_client(hpb) as client:
        await client.hello_internal(backend=nextcloud.url)
        await client.send("internal", {"type": "incall", "incall": {"incall": 1}})
        await client.join()
        yield client
