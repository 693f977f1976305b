"""A stand-in with one room, and ways to ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from spreed_signaling.testing._serve import local_client
from spreed_signaling.testing.nextcloud import StandInNextcloud

from .requests_to import SECRET, Backend


@pytest.fixture
async def nc() -> AsyncIterator[StandInNextcloud]:
    async with StandInNextcloud(backend_secret=SECRET) as server:
        server.add_room("demoroom", "Demo room")
        yield server


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with local_client() as client:
        yield client


@pytest.fixture
def backend(nc: StandInNextcloud, http: httpx.AsyncClient) -> Backend:
    return Backend(nc, http)
