# SPDX-License-Identifier: AGPL-3.0-or-later
"""The budget for refused secrets, and reading Talk's settings."""

from __future__ import annotations

from typing import Any

import pytest

from live_transcription.nextcloud import parse_ice_servers
from live_transcription.supervisor import RetryBudget
from spreed_signaling.types import IceServer


def test_people_cannot_get_us_blocked() -> None:
    budget = RetryBudget(limit=3, window_s=1800, pause_s=1)
    taken = [at for at in range(0, 100) if budget.take(at / 2)]
    assert taken == [0, 2, 4]
    assert not budget.take(1799)
    assert budget.take(1801)


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
