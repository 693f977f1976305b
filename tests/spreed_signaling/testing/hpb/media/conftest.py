"""Alice in the call, and more patience with publishers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from spreed_signaling.testing.hpb import EmbeddedHpb, HpbOptions
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from ..raw_client import raw_client
from .peers import Publisher


@pytest.fixture
def options() -> HpbOptions:
    return HpbOptions(publisher_wait_s=3.0, resume_window_s=0.5)


@pytest.fixture
async def publisher(
    hpb: EmbeddedHpb, alice: Member, nextcloud: StandInNextcloud
) -> AsyncIterator[Publisher]:
    """Alice, in the room and in the call, not publishing yet."""
    async with raw_client(hpb) as client:
        await client.hello_member(alice)
        await client.join(alice)
        await nextcloud.join_call(alice)
        publisher = Publisher(client)
        try:
            yield publisher
        finally:
            await publisher.connection.close()


@pytest.fixture
async def speaking(publisher: Publisher) -> Publisher:
    """Alice, publishing."""
    await publisher.publish()
    await publisher.connect()
    return publisher
