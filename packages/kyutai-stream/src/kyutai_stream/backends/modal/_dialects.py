# SPDX-License-Identifier: MIT
"""The dialects of `/v1/stream` and what a connection in each can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import attrs

from ...backend import Capabilities
from ...core import FRAME_S
from ...wire import gateway

__all__ = ["DIALECTS", "Dialect", "best_case", "capabilities"]

Dialect = Literal["auto", "protocol1", "gen1", "gen2", "gen3", "document"]
"""`protocol1` is our own gateway, `gen1` to `gen3` are generations of
codemyriad/kyutai_modal, `document` is the bare form of the project document."""

DIALECTS: tuple[str, ...] = get_args(Dialect)

DELAY_S = 6 * FRAME_S
"""Delay of stt-1b-en_fr."""

CHUNK_S = 2.0
"""Generation 1 transcribes chunks of this length, each when it is whole."""

KEEPALIVE_S = 8.0
"""Some servers drop a stream after 10 s without a message."""

HORIZONS_S = (0.5, 1.0, 2.0, 3.0)


def best_case(dialect: Dialect, languages: Sequence[str]) -> Capabilities:
    """What to expect before anybody connected."""
    if dialect in ("auto", "protocol1"):
        return Capabilities(
            languages=tuple(languages),
            pause_horizons_s=HORIZONS_S,
            acks=True,
            resettable=True,
            nominal_delay_s=DELAY_S,
            self_flushing=True,
            keepalive_interval_s=KEEPALIVE_S,
            punctuation=True,
        )
    return _older(dialect, tuple(languages))


def capabilities(
    dialect: Dialect, known: Capabilities, ready: gateway.Ready | None
) -> Capabilities:
    """What a connection can do, from what its gateway said or did not say."""
    if ready is None:
        return _older(dialect, known.languages)
    told = ready.languages or known.languages
    return attrs.evolve(
        known,
        languages=tuple(one for one in told if one in known.languages),
        pause_horizons_s=ready.pause_horizons_s,
        acks=ready.acks,
        resettable=True,
        nominal_delay_s=ready.delay_s,
        self_flushing=True,
        keepalive_interval_s=KEEPALIVE_S,
    )


def _older(dialect: Dialect, languages: tuple[str, ...]) -> Capabilities:
    # A pause may be told, but that is not known until it is.
    first = dialect == "gen1"
    return Capabilities(
        languages=languages,
        nominal_delay_s=CHUNK_S if first else DELAY_S,
        keepalive_interval_s=None if first else KEEPALIVE_S,
        word_times=False,
        punctuation=True,
    )
