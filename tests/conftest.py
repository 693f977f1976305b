"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    # Imported where used: the libraries are also tested without their extras.
    from spreed_signaling.testing import ServerKind, Site


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-real",
        action="store_true",
        help="fail instead of skipping where real servers or the browser are missing",
    )


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """aiortc and websockets' shell need asyncio; trio is not promised."""
    return "asyncio"


@pytest.fixture
def skip_or_fail(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Skip with a reason, or fail with it where CI must not skip."""
    required = request.config.getoption("--require-real")

    def decide(reason: str) -> None:
        if required:
            pytest.fail(f"required in this run, but not available: {reason}")
        pytest.skip(reason)

    return decide


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def server_kind(
    request: pytest.FixtureRequest, skip_or_fail: Callable[[str], None]
) -> ServerKind:
    """Every test with this fixture runs against both kinds of server."""
    from spreed_signaling.testing.real import unavailable_reason

    kind: ServerKind = request.param
    if kind == "real":
        reason = unavailable_reason()
        if reason is not None:
            skip_or_fail(reason)
    return kind


@pytest.fixture
async def site(server_kind: ServerKind) -> AsyncIterator[Site]:
    """A fresh server with an empty room `demoroom`."""
    from spreed_signaling.testing import open_site

    async with open_site(server_kind) as opened:
        yield opened
