"""Delays between attempts."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from spreed_signaling.protocol.backoff import (
    REFUSED_DELAY_S,
    ReconnectDelays,
    retry_delays,
)


class Middle(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def test_the_figures_of_an_outage() -> None:
    delays = ReconnectDelays(Middle())
    got = [delays.next() for _ in range(38)]
    assert got[:5] == [0.5, 1.0, 2.0, 2.0, 2.0]
    # Every 2 s for the first minute, then slower up to 16 s.
    assert got[3:32] == [2.0] * 29
    assert sum(got[:32]) == pytest.approx(61.5)
    assert got[32:] == [4.0, 8.0, 16.0, 16.0, 16.0, 16.0]


def test_the_next_outage_begins_anew() -> None:
    delays = ReconnectDelays(Middle())
    for _ in range(40):
        delays.next()
    delays.reset()
    got = [delays.next() for _ in range(33)]
    assert got[0] == 0.5
    assert got[-1] == 4.0


def test_clients_do_not_return_in_step() -> None:
    firsts = {ReconnectDelays().next() for _ in range(20)}
    assert len(firsts) > 10
    assert all(0.375 <= delay <= 0.625 for delay in firsts)


def test_retry_delays_double_up_to_the_longest() -> None:
    got = list(islice(retry_delays(1.0, 30.0, Middle()), 7))
    assert got == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert 0.75 <= next(retry_delays()) <= 1.25


def test_a_refused_secret_stays_below_the_servers_limit() -> None:
    assert 30 * 60 / REFUSED_DELAY_S < 10
