# SPDX-License-Identifier: MIT
"""A moshi-server that somebody else runs: only asked how it is, never touched."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from kyutai_stream.backends.moshi_server import MoshiServerBackend

from ._upstream_base import UpstreamBase
from .probe import Probe, Verdict
from .settings import GatewaySettings
from .upstream import UpstreamState

__all__ = ["AttachedServer"]

logger = logging.getLogger("kyutai_gateway.attached")

SOON_S = 5.0
"""Until the next probe of a server that is not ready, at most."""


class AttachedServer(UpstreamBase):
    """The server at `attach_url`; fulfils `Upstream`.

    It is ready after a probe that succeeded, and not after one that did not, until
    the next. It never fails for good: whoever runs it may bring it back.

    Args:
        settings: Address, key, and the places it has (`slots`).
    """

    def __init__(self, settings: GatewaySettings) -> None:
        super().__init__(settings)
        self._server = MoshiServerBackend(
            url=settings.attach_url,
            api_key=settings.attach_api_key,
            model=settings.model,
        )
        self._gate.put(self._server)

    @property
    def http_url(self) -> str | None:
        """Base address of its own pages."""
        parts = urlsplit(self._server.endpoints[0])
        scheme = "https" if parts.scheme == "wss" else "http"
        return f"{scheme}://{parts.netloc}"

    async def run(self) -> None:
        """Ask it again and again until cancelled."""
        settings = self._settings
        probe = Probe(
            url=settings.attach_url,
            api_key=settings.attach_api_key,
            model=settings.model,
            ready_timeout_s=settings.ready_timeout_s,
        )
        while True:
            result = await self._ask(probe)
            if result is not None:
                match result.verdict:
                    case Verdict.ALIVE:
                        self._set(UpstreamState.READY)
                    case Verdict.FULL:
                        # It may well be others who use it.
                        self._note(result.reason)
                    case Verdict.SILENT:
                        self._set(UpstreamState.WEDGED, result.reason)
                    case Verdict.WRONG:
                        logger.error("%s", result.reason)
                        self._set(UpstreamState.WEDGED, result.reason)
            interval_s = settings.probe_interval_s
            if self.state is not UpstreamState.READY:
                interval_s = min(interval_s, SOON_S)
            await self._due(interval_s)

    def _note(self, problem: str) -> None:
        """Say why nothing is known, without a new state."""
        if self.state is not UpstreamState.READY:
            self._problem = problem
