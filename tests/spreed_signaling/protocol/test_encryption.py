"""Messages of the key exchange are recognised, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from spreed_signaling.protocol.encryption import is_encryption_signal


@pytest.mark.parametrize("kind", ["start", "finish", "setkey", "gotkey", "error"])
def test_key_exchange(kind: str) -> None:
    payload = {"id": "1", "type": f"encryption.{kind}"}
    assert is_encryption_signal({"type": "message", "to": "me", "payload": payload})


@pytest.mark.parametrize(
    "data",
    [
        None,
        "encryption.start",
        {},
        {"type": "encryption.start"},
        {"payload": "encryption.start"},
        {"payload": {"type": 1}},
        {"type": "mute", "payload": {"name": "audio"}},
        {"type": "offer", "payload": {"type": "offer", "sdp": ""}},
    ],
)
def test_anything_else(data: Any) -> None:
    assert not is_encryption_signal(data)
