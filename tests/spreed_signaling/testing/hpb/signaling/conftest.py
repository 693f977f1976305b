"""A bot that said hello, and Alice in the room."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from spreed_signaling.testing.hpb import EmbeddedHpb
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from ..raw_client import RawClient, raw_client


@pytest.fixture
async def bot(
    hpb: EmbeddedHpb, nextcloud: StandInNextcloud
) -> AsyncIterator[RawClient]:
    """An internal client after its hello."""
    async with raw_client(hpb) as client:
        await client.hello_internal(backend=nextcloud.url)
        yield client


@pytest.fixture
async def user(hpb: EmbeddedHpb, alice: Member) -> AsyncIterator[RawClient]:
    """Alice, in the room."""
    async with raw_client(hpb) as client:
        await client.hello_member(alice)
        await client.join(alice)
        await client.kind("event/room/join")
        yield client
