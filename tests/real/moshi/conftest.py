"""A real moshi-server for each test; skipped with the reason where there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kyutai_stream.testing.real import RealMoshiServer, unavailable_reason


@pytest.fixture(scope="session")
def moshi_ready() -> None:
    """Never builds: that takes ten minutes and belongs to `make test-moshi`."""
    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(f"NOT TESTED AGAINST THE REAL SERVER: {reason}")


@pytest.fixture
async def listening(moshi_ready: None) -> AsyncIterator[RealMoshiServer]:
    """Two slots; hears the tone vocabulary."""
    async with RealMoshiServer(batch_size=2, model="listen") as server:
        yield server


@pytest.fixture
async def scripted(moshi_ready: None) -> AsyncIterator[RealMoshiServer]:
    """Two slots; says the same words whatever it hears."""
    async with RealMoshiServer(batch_size=2, model="script") as server:
        yield server
