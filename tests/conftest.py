"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address, ip_network
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


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") and shutil.which("chromium") is None:
        _skip_or_fail(item.config, "chromium is missing (Debian package `chromium`)")


def _skip_or_fail(config: pytest.Config, reason: str) -> None:
    """Skip with the reason, or fail with it where CI must not skip."""
    if config.getoption("--require-real"):
        pytest.fail(f"required in this run, but not available: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """aiortc and websockets' shell need asyncio; trio is not promised."""
    return "asyncio"


@pytest.fixture
def real_available(request: pytest.FixtureRequest) -> None:
    """For tests that run against the real servers only."""
    from spreed_signaling.testing.real import unavailable_reason

    reason = unavailable_reason()
    if reason is not None:
        _skip_or_fail(request.config, reason)


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def server_kind(request: pytest.FixtureRequest) -> ServerKind:
    """Every test with this fixture runs against both kinds of server."""
    from spreed_signaling.testing.real import unavailable_reason

    kind: ServerKind = request.param
    if kind == "real":
        reason = unavailable_reason()
        if reason is not None:
            _skip_or_fail(request.config, reason)
    return kind


@pytest.fixture
async def site(server_kind: ServerKind) -> AsyncIterator[Site]:
    """A fresh server with an empty room `demoroom`."""
    from spreed_signaling.testing import open_site

    async with open_site(server_kind) as opened:
        yield opened


@pytest.fixture(scope="session", autouse=True)
def neighbours_networks_left_alone() -> Iterator[None]:
    """Keep ICE off the links to the Janus of other parts of this suite.

    Any address of this machine reaches ours, and theirs vanish in the middle of a
    test: then a connection over them is dead for half a minute.
    """
    try:
        from aioice import ice
    except ImportError:
        yield
        return
    original = ice.get_host_addresses
    of_tests = ip_network("198.18.0.0/15")

    def lasting(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        found = original(use_ipv4, use_ipv6)
        return [one for one in found if ip_address(one) not in of_tests] or found

    ice.get_host_addresses = lasting
    yield
    ice.get_host_addresses = original
