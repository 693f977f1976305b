# SPDX-License-Identifier: AGPL-3.0-or-later
"""Reading Talk's settings."""

from __future__ import annotations

from typing import Any

import pytest

from live_transcription.nextcloud import parse_ice_servers
from spreed_signaling.types import IceServer


def test_talks_settings_to_ice_servers() -> None:
    data = {
        "stunservers": [{"urls": ["stun:s.example.com:443"]}],
        "turnservers": [
            {"urls": "turn:t.example.com", "username": "u", "credential": "c"}
        ],
    }
    assert parse_ice_servers(data) == (
        IceServer(urls=("stun:s.example.com:443",)),
        IceServer(urls=("turn:t.example.com",), username="u", credential="c"),
    )


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"stunservers": None},
        {"stunservers": [None, {}, {"urls": 3}, {"urls": [4, ""]}]},
    ],
)
def test_strange_settings_mean_no_server(data: Any) -> None:
    assert parse_ice_servers(data) == ()
