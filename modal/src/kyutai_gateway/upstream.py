# SPDX-License-Identifier: MIT
"""What the gateway needs to know of the moshi-server behind it.

Two kinds fulfil `Upstream`: a child that the gateway supervises, and a server that
somebody else runs. The streams of the gateway read it and never ask which it is.
"""

from __future__ import annotations

import enum
from typing import Protocol

from kyutai_stream import Backend

__all__ = ["Upstream", "UpstreamState"]


class UpstreamState(enum.StrEnum):
    """How the model server is."""

    STARTING = "starting"
    """Not proven ready yet, or being restarted."""
    READY = "ready"
    """A `Ready` handshake, and where the model sends them a `Step`, were seen."""
    WEDGED = "wedged"
    """It accepts connections but its model loop answers nothing."""
    FAILED = "failed"
    """It cannot be brought back; the process should be replaced."""


class Upstream(Protocol):
    """A moshi-server, seen from the gateway."""

    @property
    def state(self) -> UpstreamState:
        """How it is, by its last probe."""

    @property
    def backend(self) -> Backend:
        """Opens one connection to it (`kyutai_stream` contract)."""

    @property
    def slots(self) -> int:
        """Streams it can serve at a time (`batch_size`)."""

    @property
    def model(self) -> str:
        """Name of the model, such as `stt-1b-en_fr`."""

    async def wait_ready(self) -> None:
        """Wait until it is ready; to be bounded by the caller."""

    def suspect(self) -> None:
        """Say that a stream saw no sign of life: probe it now."""
