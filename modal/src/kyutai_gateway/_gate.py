# SPDX-License-Identifier: MIT
"""One backend for streams whose server comes and goes behind it."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import anyio

from kyutai_stream import CapacityError, ConnectFailed, ConnectRequest
from kyutai_stream.backend import Backend, Capabilities, Connection

__all__ = ["Gate"]

LINGER_S = 2.0
"""So long after a probe its place may still count as taken."""
TRIES = 20
PAUSE_S = 0.1
"""A server that refuses although a place is ours is about to notice the end of the
stream, or of the probe, that had it."""


class Gate:
    """Fulfils `kyutai_stream.Backend` for whatever server there is at the moment.

    Counts the connections, so that probes leave the last place to streams; where a
    place is only not given free yet, it waits for that.

    Args:
        model: For people.
        capabilities: What a connection can do.
        slots: Places of the server.
        alone: Whether nobody else uses the server, so that the count is all.
    """

    name = "moshi-server"

    def __init__(
        self, *, model: str, capabilities: Capabilities, slots: int, alone: bool
    ) -> None:
        self.description = f"Kyutai {model} on a moshi-server"
        self.capabilities = capabilities
        self.open = 0
        """Connections, those being opened included."""
        self._slots = slots
        self._alone = alone
        self._server: Backend | None = None
        self._probe_until = -math.inf

    def put(self, server: Backend | None) -> None:
        """Lead new connections to this server; None refuses them."""
        self._server = server

    @property
    def room_for_probe(self) -> bool:
        """Whether a probe would take no place that a stream may need."""
        return self.open == 0 or self.open + 1 < self._slots

    @contextmanager
    def probing(self) -> Generator[None, None, None]:
        """Say that a probe has a place, which counts as taken a moment longer."""
        self._probe_until = math.inf
        try:
            yield
        finally:
            self._probe_until = anyio.current_time() + LINGER_S

    def no_probe(self) -> None:
        """Say that the probe got no place."""
        self._probe_until = -math.inf

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        """Open one connection to the server that is there now.

        Raises:
            ConnectFailed: Also if there is none.
            KyutaiStreamError: Whatever the server's backend raises.
        """
        self.open += 1
        try:
            async with AsyncExitStack() as stack:
                yield await self._enter(stack, request)
        finally:
            self.open -= 1

    async def _enter(
        self, stack: AsyncExitStack, request: ConnectRequest
    ) -> Connection:
        """Try again while a place is ours but not given free yet."""
        tries = 0
        while True:
            server = self._server
            if server is None:
                raise ConnectFailed("moshi-server is not running")
            try:
                return await stack.enter_async_context(server.connect(request))
            except CapacityError:
                tries += 1
                ours = self._alone or anyio.current_time() < self._probe_until
                if not ours or self.open > self._slots or tries == TRIES:
                    raise
            await anyio.sleep(PAUSE_S)
