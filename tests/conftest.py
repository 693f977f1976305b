"""Fixtures shared by all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """aiortc and websockets' shell need asyncio; trio is not promised."""
    return "asyncio"
