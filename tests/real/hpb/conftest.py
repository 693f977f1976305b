"""The real signaling server and Janus, fetched once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from spreed_signaling.testing.nextcloud import StandInNextcloud
from spreed_signaling.testing.real import RealServersUnavailable, prepare


@pytest.fixture(scope="session", autouse=True)
async def servers_prepared(request: pytest.FixtureRequest) -> None:
    """Download once; skips with the reason where that is impossible, CI fails."""
    try:
        await prepare(progress=lambda line: print(line))  # noqa: T201  # shown by -s
    except RealServersUnavailable as exc:
        if request.config.getoption("--require-real"):
            raise
        pytest.skip(str(exc))


@pytest.fixture
async def nc() -> AsyncIterator[StandInNextcloud]:
    async with StandInNextcloud() as server:
        server.add_room("tok", "Room")
        yield server
