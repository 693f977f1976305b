# SPDX-License-Identifier: MIT
"""Several backends as one: the first that works serves the connection.

Made in code, not by name: each backend in it has settings of its own.

```python
backend = Fallback([ModalBackend(workspace="acme"), MoshiServerBackend(url=...)])
```

The choice is made anew for each connection, so a session that reconnects returns to
the first backend once that works again; a connection that works is never broken off
for that. `Ready.backend` names the one that serves, and the session reports it to
its reader, so no engine is changed in silence.

Each backend takes its own time to give up. Where another one is waiting, that should
be short (`open_timeout_s` of `ModalBackend` is made for a cold start).
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import attrs

from ..backend import (
    Backend,
    Capabilities,
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Frame,
    Ready,
    Warmable,
)
from ..errors import (
    AuthError,
    BackendUnavailable,
    CapacityError,
    ConfigError,
    ConnectFailed,
    KyutaiStreamError,
)

__all__ = ["Fallback"]

logger = logging.getLogger(__name__)

MOVES_ON = (AuthError, BackendUnavailable, CapacityError, ConnectFailed)
"""What the next backend may do better. A wrong setting or a server that cannot be
understood is a mistake to be seen."""

TELLING = (CapacityError, ConnectFailed, AuthError, BackendUnavailable)
"""Which error to raise when all fail: the most hopeful one, as it is retried."""


class Fallback:
    """Tries backends in order for each connection.

    One that has just failed is tried last for a while, so that speakers need not
    wait for its time-out each time; it is never left out.

    Args:
        backends: The preferred one first; at least one.
        retry_first_after_s: Seconds after which a failed one takes its place in the
            order again; a longer wait that its server asked for is respected.

    Raises:
        ConfigError: If there is no backend, or some recognise speech and others
            only give notices.
    """

    def __init__(
        self, backends: Sequence[Backend], *, retry_first_after_s: float = 60.0
    ) -> None:
        if not backends:
            raise ConfigError("a fallback needs a backend")
        if len({backend.capabilities.transcribes for backend in backends}) > 1:
            # Nobody should take a notice for what was said.
            raise ConfigError(
                "a recogniser cannot fall back to one that only gives notices"
            )
        self.backends = tuple(backends)
        """In the order of preference."""
        self._retry_first_after_s = retry_first_after_s
        # By position: not before its turn again, seconds of the event loop.
        self._failed_until = [-math.inf] * len(self.backends)

    @property
    def name(self) -> str:
        """The names of its backends, in order."""
        return " or ".join(backend.name for backend in self.backends)

    @property
    def description(self) -> str:
        """One line for people."""
        return f"the first that works: {self.name}"

    @property
    def capabilities(self) -> Capabilities:
        """What holds for every one of them; `Ready` says what a connection has."""
        able = [backend.capabilities for backend in self.backends]
        first, horizons = able[0], {one.pause_horizons_s for one in able}
        return attrs.evolve(
            first,
            languages=_languages(able),
            endpointing=all(one.endpointing for one in able),
            pause_horizons_s=first.pause_horizons_s if len(horizons) == 1 else (),
            acks=all(one.acks for one in able),
            resettable=all(one.resettable for one in able),
            nominal_delay_s=max(one.nominal_delay_s for one in able),
            self_flushing=all(one.self_flushing for one in able),
            silence_prefix_s=max(one.silence_prefix_s for one in able),
            keepalive_interval_s=_shortest(able),
            max_sessions=_most_sessions(able),
            punctuation=all(one.punctuation for one in able),
        )

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        """Connect to the first backend that works and knows the language.

        Raises:
            ConfigError: If none understands the language, or a setting is wrong.
            CapacityError: If all failed and one was full.
            ConnectFailed: If all failed and one may be reached later.
            AuthError: If all failed and one refused its keys.
            BackendUnavailable: If none can run here.
            ProtocolError: If one talks to a server that it does not understand.
        """
        async with AsyncExitStack() as stack:
            backend, connection = await self._first(request, stack)
            yield _Named(connection, backend.name)

    async def warm(self) -> bool:
        """Wake the backend whose turn is first, if it can be woken; see `Warmable`.

        Returns:
            Whether it says that it is ready.

        Raises:
            AuthError: If it refuses its keys.
            ConfigError: If its address is wrong.
            ConnectFailed: If it cannot be reached or does not answer in time.
        """
        first = self.backends[self._order(None)[0]]
        return await first.warm() if isinstance(first, Warmable) else False

    async def _first(
        self, request: ConnectRequest, stack: AsyncExitStack
    ) -> tuple[Backend, Connection]:
        failures: list[KyutaiStreamError] = []
        for position in self._order(request.language):
            backend = self.backends[position]
            try:
                connection = await stack.enter_async_context(backend.connect(request))
            except MOVES_ON as exc:
                self._remember(position, exc)
                failures.append(exc)
                continue
            self._failed_until[position] = -math.inf
            return backend, connection
        raise min(failures, key=_telling)

    def _order(self, language: str | None) -> list[int]:
        known = [
            position
            for position, backend in enumerate(self.backends)
            if _understands(backend.capabilities, language)
        ]
        if not known:
            raise ConfigError(f"none of {self.name} understands {language!r}")
        now = anyio.current_time()
        return sorted(known, key=lambda position: self._failed_until[position] > now)

    def _remember(self, position: int, error: KyutaiStreamError) -> None:
        backend = self.backends[position]
        # Somebody has to mend what will not work again by itself.
        level = logging.INFO if error.retryable else logging.WARNING
        logger.log(level, "backend %s failed: %s", backend.name, error)
        wait_s = self._retry_first_after_s
        if isinstance(error, CapacityError):
            wait_s = max(wait_s, error.retry_after_s or 0.0)
        self._failed_until[position] = anyio.current_time() + wait_s


class _Named:
    """A connection whose `Ready` names the backend that serves it."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._events = aiter(connection)

    async def send(self, frame: Frame) -> None:
        await self._connection.send(frame)

    async def request_flush(self, token: int) -> None:
        await self._connection.request_flush(token)

    async def reset(self) -> None:
        await self._connection.reset()

    async def keepalive(self) -> None:
        await self._connection.keepalive()

    def __aiter__(self) -> AsyncIterator[ConnectionEvent]:
        return self

    async def __anext__(self) -> ConnectionEvent:
        event = await anext(self._events)
        if isinstance(event, Ready) and not event.backend:
            return attrs.evolve(event, backend=self._name)
        return event


def _understands(able: Capabilities, language: str | None) -> bool:
    return language is None or not able.languages or language in able.languages


def _languages(able: Sequence[Capabilities]) -> tuple[str, ...]:
    """All that some backend understands; the choice is made by language."""
    if any(not one.languages for one in able):
        return ()
    return tuple(dict.fromkeys(code for one in able for code in one.languages))


def _shortest(able: Sequence[Capabilities]) -> float | None:
    intervals = [one.keepalive_interval_s for one in able]
    return min((one for one in intervals if one is not None), default=None)


def _most_sessions(able: Sequence[Capabilities]) -> int | None:
    known = [one.max_sessions for one in able if one.max_sessions is not None]
    return sum(known) if len(known) == len(able) else None


def _telling(error: KyutaiStreamError) -> int:
    return next(i for i, kind in enumerate(TELLING) if isinstance(error, kind))
