"""The tests of the fake gateway's protocol 1, pointed at the real one.

They are loaded from where they are and see another `FakeGateway`. Those that look
into the fake itself are left out; the other modules here have them for the gateway.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

WHERE = Path(__file__).parents[2] / "kyutai_stream/testing/gateway/test_protocol1.py"

LOOK_INSIDE = {
    "test_acks_count_client_samples",
    "test_any_chunking_says_the_same",
    "test_pings_are_data_and_empty_messages_keep_alive",
    # Waits 5 s; without steps a flush takes as long as the audio.
    "test_without_acks",
}


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("protocol1_of_the_fake", WHERE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


module = _load()

globals().update(
    {
        name: value
        for name, value in vars(module).items()
        if name.startswith("test_") and name not in LOOK_INSIDE
    }
)


@pytest.fixture(autouse=True)
def point_at_the_gateway(real_gateway: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FakeGateway", real_gateway)
