"""Time-outs of servers take no time here: virtual time."""

from __future__ import annotations

import pytest

from kyutai_stream.testing import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}
