# SPDX-License-Identifier: MIT
"""`moshi-server`: Kyutai's Rust server, self-hosted, spoken to directly.

Needs the extra `ws`. The server's own MessagePack protocol is the richest one:
its steps say how far it is, so nothing is lost when a connection breaks.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from attrs import frozen

from ...backend import Capabilities, Connection, ConnectRequest
from ...core import FRAME_S
from ...errors import ConfigError
from .._extras import not_installed

try:
    from ...wire.address import websocket_urls
    from .._websocket import DialOptions, Endpoints, Socket, check_language, dial
    from ._capacity import Slots, read_slots
    from ._connection import MoshiConnection, wait_ready
    from ._stream import HORIZONS_S, Profile
except ModuleNotFoundError as exc:
    raise not_installed(exc, "ws") from exc

__all__ = ["DEFAULT_URL", "MODELS", "Model", "MoshiServerBackend", "Slots"]

DEFAULT_URL = "ws://127.0.0.1:8080"
"""A moshi-server on this machine, at its default port."""

DEFAULT_PATH = "/api/asr-streaming"
"""Customary path of the speech module in the server's configuration."""

KEEPALIVE_S = 50.0
"""The server drops a stream 120 s after its last binary message."""


@frozen(kw_only=True)
class Model:
    """A published Kyutai model."""

    delay_frames: int
    """How far its words are behind the audio, frames of 80 ms."""
    languages: tuple[str, ...]
    """ISO 639-1 codes."""
    pause_heads: bool
    """Whether it tells pauses; without them the server sends no steps either."""
    silence_prefix_s: float = 0.0
    """Silence it wants to hear first, seconds."""


MODELS = {
    "stt-1b-en_fr": Model(delay_frames=6, languages=("en", "fr"), pause_heads=True),
    "stt-2.6b-en": Model(
        delay_frames=32, languages=("en",), pause_heads=False, silence_prefix_s=1.0
    ),
}
"""By name. Source: the configurations published with Kyutai's
delayed-streams-modeling."""


class MoshiServerBackend:
    """Kyutai's speech-to-text on a moshi-server of one's own.

    Args:
        url: Address of the server, `ws`, `wss`, `http` or `https`; without a path
            it is `/api/asr-streaming`. Several (a sequence, or with commas between)
            are tried in order, the one that worked last first.
        api_key: One of the server's `authorized_ids`.
        model: A key of `MODELS`: what the server runs.
        languages: ISO 639-1 codes to accept, where not all of the model's.
        ready_timeout_s: Seconds for the model loop to answer once connected.
        open_timeout_s: Seconds for TCP, TLS and upgrade.
        python_server: Whether the module is of type `PyBatchedAsr`. Its steps count
            all streams and its markers end them: neither is used then.
        ssl_context: For `wss`; None trusts the system's certificates.
        proxy: Address of a proxy. None goes directly, whatever the environment
            says; True takes it from there.

    Raises:
        ConfigError: If a setting is wrong.
    """

    name = "moshi-server"

    def __init__(
        self,
        *,
        url: str | Sequence[str] = DEFAULT_URL,
        api_key: str = "public_token",
        model: str = "stt-1b-en_fr",
        languages: Sequence[str] | None = None,
        ready_timeout_s: float = 5.0,
        open_timeout_s: float = 10.0,
        python_server: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | Literal[True] | None = None,
    ) -> None:
        self._endpoints = Endpoints(websocket_urls(url, default_path=DEFAULT_PATH))
        known = MODELS.get(model)
        if known is None:
            raise ConfigError(f"no model {model!r}: known are {', '.join(MODELS)}")
        self.description = f"Kyutai {model} on a moshi-server"
        self.capabilities = _capabilities(known, languages, python_server)
        delay_s = self.capabilities.nominal_delay_s
        self._profile = Profile(
            steps=self.capabilities.acks,
            markers=not python_server,
            late_s=delay_s if python_server else 0.0,
        )
        self._ready_timeout_s = ready_timeout_s
        self._options = DialOptions(
            headers={"kyutai-api-key": api_key},
            open_timeout_s=open_timeout_s,
            tls=ssl_context,
            proxy=proxy,
        )

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The servers' addresses."""
        return self._endpoints.urls

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        """Connect to the first server with a free place and a living model.

        Raises:
            AuthError: If the key is refused.
            CapacityError: If no server has a free place.
            ConfigError: If the language is not the model's, or there is no such
                path on the server.
            ConnectFailed: If none can be reached or becomes ready in time.
            ProtocolError: If the other side is no moshi-server.
        """
        check_language(self.name, request.language, self.capabilities.languages)
        socket = await self._endpoints.first(self._open)
        try:
            yield MoshiConnection(socket, self._profile, self.capabilities)
        finally:
            await socket.close()

    async def slots(self, *, timeout_s: float = 5.0) -> dict[str, Slots]:
        """Ask every server how many of its places are taken, without taking one.

        Args:
            timeout_s: Seconds for each.

        Returns:
            By address.

        Raises:
            ConnectFailed: If one does not answer as expected.
        """
        tls = self._options.tls
        return {
            url: await read_slots(url, timeout_s=timeout_s, tls=tls)
            for url in self.endpoints
        }

    async def _open(self, url: str) -> Socket:
        socket = await dial(url, self._options)
        try:
            await wait_ready(socket, self._ready_timeout_s)
        except BaseException:
            await socket.close()
            raise
        return socket


def _capabilities(
    model: Model, languages: Sequence[str] | None, python_server: bool
) -> Capabilities:
    strange = set(languages or ()) - set(model.languages)
    if strange:
        raise ConfigError(
            f"the model does not know {', '.join(sorted(strange))}, "
            f"only {', '.join(model.languages)}"
        )
    steps = model.pause_heads and not python_server
    return Capabilities(
        languages=tuple(languages or model.languages),
        pause_horizons_s=HORIZONS_S if steps else (),
        acks=steps,
        resettable=True,
        nominal_delay_s=model.delay_frames * FRAME_S,
        silence_prefix_s=model.silence_prefix_s,
        keepalive_interval_s=KEEPALIVE_S,
        punctuation=True,
    )
