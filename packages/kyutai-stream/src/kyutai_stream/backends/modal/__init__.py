# SPDX-License-Identifier: MIT
"""`modal`: Kyutai's speech-to-text behind a gateway, on Modal or anywhere else.

Needs the extra `ws`. Understands protocol 1 of our own gateway and the older
generations that share its path `/v1/stream`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from ...backend import Connection, ConnectRequest
from ...errors import AuthError, ConfigError, ConnectFailed
from .._extras import not_installed

try:
    from ...wire.address import address_for_people, websocket_urls
    from .._websocket import DialOptions, Endpoints, check_language, dial, page_status
    from ._connection import GatewayConnection
    from ._dialects import DIALECTS, Dialect, best_case
except ModuleNotFoundError as exc:
    raise not_installed(exc, "ws") from exc

__all__ = ["Dialect", "ModalBackend", "workspace_url"]

DEFAULT_PATH = "/v1/stream"
WARM_PATH = "/v1/warm"
"""Of the page that answers when the model is ready; the older gateways have none."""

PROTOCOL_HEADER = "kyutai-protocol"
"""In a gateway's answer to the handshake: the protocol that it will speak."""

LABEL = "kyutai-stt-rust-kyutaisttrustservice-serve"
"""What Modal makes of the names of app, class and method."""

LONGEST_HOST = 63
"""Of the part before `.modal.run`; longer ones get a hash that is not documented."""


class ModalBackend:
    """Kyutai's speech-to-text behind a gateway.

    Args:
        url: Address of the gateway; without a path it is `/v1/stream`. Several (a
            sequence, or with commas between) are tried in order, the one that
            worked last first.
        workspace: Instead of an address: name of the Modal workspace.
        environment: Suffix of the Modal environment, if it is not the main one.
        key: Modal proxy token, `wk-…`.
        secret: Its secret, `ws-…`.
        api_key: Bearer token of a gateway hosted elsewhere.
        dialect: What the gateway speaks. `auto` finds out, except for `gen1`,
            which wants other audio.
        languages: ISO 639-1 codes of the model behind it.
        detect_s: With `auto`, seconds to wait for the `ready` of protocol 1 before
            the gateway is taken for an older one; the answer is remembered.
        ready_timeout_s: Seconds for `ready` where protocol 1 is known.
        open_timeout_s: Seconds for TCP, TLS and upgrade. On Modal the upgrade waits
            until a container has started.
        ssl_context: For `wss`; None trusts the system's certificates.
        proxy: Address of a proxy. None goes directly, whatever the environment
            says; True takes it from there.

    Raises:
        ConfigError: If a setting is wrong or missing.
    """

    name = "modal"
    description = "Kyutai speech-to-text behind a gateway, on Modal or self-hosted"

    def __init__(
        self,
        *,
        url: str | Sequence[str] | None = None,
        workspace: str | None = None,
        environment: str | None = None,
        key: str | None = None,
        secret: str | None = None,
        api_key: str | None = None,
        dialect: Dialect = "auto",
        languages: Sequence[str] = ("en", "fr"),
        detect_s: float = 3.0,
        ready_timeout_s: float = 120.0,
        open_timeout_s: float = 120.0,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | Literal[True] | None = None,
    ) -> None:
        if dialect not in DIALECTS:
            raise ConfigError(
                f"no dialect {dialect!r}: known are {', '.join(DIALECTS)}"
            )
        if not url and not workspace:
            raise ConfigError("the backend modal needs a url or a workspace")
        urls = url or workspace_url(workspace or "", environment)
        self._endpoints = Endpoints(websocket_urls(urls, default_path=DEFAULT_PATH))
        self._dialect: Dialect = dialect
        self._detect_s = detect_s
        self._ready_timeout_s = ready_timeout_s
        # By address: whether it said `ready` when last asked.
        self._said_ready: dict[str, bool] = {}
        self.capabilities = best_case(dialect, languages)
        self._options = DialOptions(
            headers=_headers(key, secret, api_key),
            open_timeout_s=open_timeout_s,
            ping_interval_s=20.0,
            ping_timeout_s=20.0,
            tls=ssl_context,
            proxy=proxy,
        )

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The gateways' addresses."""
        return self._endpoints.urls

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        """Connect to the first gateway with a free place.

        Raises:
            AuthError: If the keys are refused.
            CapacityError: If no gateway has a free place, or one is still starting.
            ConfigError: If the language is not the model's, or there is no gateway
                at the address.
            ConnectFailed: If none can be reached or becomes ready in time.
            ProtocolError: If the other side is no gateway.
        """
        check_language(self.name, request.language, self.capabilities.languages)
        opened = await self._endpoints.first(self._open)
        try:
            able = opened.begin()
            check_language(self.name, request.language, able.languages)
            yield opened
        finally:
            await opened.close()
            if opened.says_ready and self._dialect == "auto":
                # It said so late: next time it is waited for.
                self._said_ready[opened.url] = True

    async def warm(self) -> bool:
        """Start a container, if none runs, and wait for its model; see `Warmable`.

        Asks `/v1/warm` of the gateway that `connect` would try first, with the same
        keys and within `open_timeout_s`; never by way of `proxy`. A gateway without
        such a page is woken all the same. Only one is woken: the next is asked if
        one cannot be reached, not if it is still starting.

        Returns:
            Whether it says that its model is ready.

        Raises:
            AuthError: If the keys are refused.
            ConfigError: If an address is wrong.
            ConnectFailed: If none can be reached or answers in time.
        """
        return await self._endpoints.first(self._warm_one)

    async def _warm_one(self, url: str) -> bool:
        parts = urlsplit(url)
        if self._options.proxy is not None or not parts.path.endswith(DEFAULT_PATH):
            return False
        page = urlunsplit(
            parts._replace(path=parts.path.removesuffix(DEFAULT_PATH) + WARM_PATH)
        )
        status = await page_status(page, self._options, self._options.open_timeout_s)
        if status in (401, 403):
            where = address_for_people(page)
            raise AuthError(
                f"{where} answered HTTP {status}: the keys are wrong or missing"
            )
        return status == 200

    async def _open(self, url: str) -> GatewayConnection:
        socket = await dial(url, self._options)
        connection = GatewayConnection(
            socket, url, dialect=self._dialect, known=self.capabilities
        )
        try:
            if self._dialect == "auto" and socket.header(PROTOCOL_HEADER) == "1":
                # It will say `ready`, however long its model takes to start.
                self._said_ready[url] = True
            await connection.wait_ready(self._patience_s(url))
            self._learn(url, connection.says_ready)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _patience_s(self, url: str) -> float:
        """Seconds to wait for `ready`."""
        if self._dialect == "protocol1":
            return self._ready_timeout_s
        if self._dialect != "auto":
            return 0.0
        said_ready = self._said_ready.get(url)
        if said_ready is None:
            return self._detect_s
        return self._ready_timeout_s if said_ready else 0.0

    def _learn(self, url: str, says_ready: bool) -> None:
        expected = self._dialect == "protocol1" or self._said_ready.get(url, False)
        if expected and not says_ready:
            # Another one may have taken its place: look again next time.
            self._said_ready.pop(url, None)
            where = address_for_people(url)
            raise ConnectFailed(
                f"{where} was not ready within {self._ready_timeout_s:g} s"
            )
        if self._dialect == "auto":
            self._said_ready[url] = says_ready


def workspace_url(workspace: str, environment: str | None = None) -> str:
    """The address that Modal gives to the gateway of a workspace.

    Args:
        workspace: Name of the workspace.
        environment: Suffix of its environment, None for the main one.

    Raises:
        ConfigError: If it is no such name, or too long.

    Source:
        modal-serving.md section 2: `{workspace}[-{environment}]--{label}`, at most
        63 characters.
    """
    name = f"{workspace}-{environment}" if environment else workspace
    name = name.strip().lower()
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ConfigError(
            f"{name[:40]!r} is no name of a Modal workspace: letters, digits, hyphens"
        )
    host = f"{name}--{LABEL}"
    if len(host) > LONGEST_HOST:
        most = LONGEST_HOST - len(LABEL) - 2
        raise ConfigError(
            f"the workspace name {name!r} is longer than {most} characters, so Modal "
            "shortens the address: give the full url instead"
        )
    return f"wss://{host}.modal.run{DEFAULT_PATH}"


def _headers(
    key: str | None, secret: str | None, api_key: str | None
) -> Mapping[str, str]:
    if bool(key) != bool(secret):
        raise ConfigError("a Modal proxy token has two parts: give key and secret")
    if (key or "").startswith("ak-") or (secret or "").startswith("as-"):
        raise ConfigError(
            "this is a Modal API token, which rules the whole account: make a proxy "
            "token (wk-…, ws-…)"
        )
    headers: dict[str, str] = {}
    if key and secret:
        headers |= {"Modal-Key": key, "Modal-Secret": secret}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    return headers
