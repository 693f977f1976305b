# SPDX-License-Identifier: MIT
"""Who may open or resume a session.

Source:
    nextcloud-spreed-signaling `docs/standalone-signaling-api-v1.md`, "Establish
    connection", "Resuming sessions" and "Internal clients".
"""

from __future__ import annotations

import hmac
import time
from datetime import UTC, datetime
from typing import Any

import anyio
from attrs import frozen

from ...protocol.auth import BACKEND_PATH, internal_token
from ...protocol.messages import ClientHello
from . import frames, tokens
from .backend import BackendClient, BackendFailure
from .hub import Hub
from .state import Link, ResumeIds, Session
from .throttle import Throttle

__all__ = ["Greeter", "ServerSecrets"]


class _Refused(Exception):
    """A hello that is answered with an error."""

    def __init__(self, code: str, message: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


@frozen(kw_only=True, repr=False)
class ServerSecrets:
    """What the server was configured with."""

    backend_url: str
    """Nextcloud's base URL, without a slash at the end."""
    internal_secret: str
    """Empty: internal clients are not allowed."""


class Greeter:
    """Examines hellos."""

    def __init__(
        self,
        hub: Hub,
        secrets: ServerSecrets,
        *,
        backend: BackendClient,
        throttle: Throttle,
        resume_ids: ResumeIds,
    ) -> None:
        self._hub = hub
        self._secrets = secrets
        self._backend = backend
        self._throttle = throttle
        self._resume_ids = resume_ids

    async def hello(self, link: Link, message: ClientHello) -> None:
        """Answer a hello, after the wait that a failed attempt costs."""
        link.hello_deadline = None  # Paused while the request is examined.
        try:
            if message.resume_id:
                await self._resume(link, message)
                return
            session = await self._authenticate(link, message)
        except _Refused as exc:
            self._hub.hello_failed(link, time.monotonic())
            link.send(frames.error(message.id, exc.code, exc.message))
            return
        self._hub.register(link, message.id, session, time.monotonic())

    async def _resume(self, link: Link, message: ClientHello) -> None:
        resume_id = message.resume_id or ""
        if not self._resume_ids.is_ours(resume_id):
            await self._fail("resume", link, "no_such_session")
        if not self._hub.resume(link, message.id, resume_id):
            raise _Refused("no_such_session")

    async def _authenticate(self, link: Link, message: ClientHello) -> Session:
        if message.version not in ("1.0", "2.0"):
            raise _Refused("invalid_hello_version")
        auth = message.auth
        if auth is None or auth.params is None:
            raise _Refused("invalid_format")
        if auth.type == "internal":
            return await self._internal_session(link, message, auth.params)
        if auth.type not in (None, "", "client"):
            raise _Refused("invalid_client_type")
        if not auth.url or not self._is_ours(auth.url):
            raise _Refused("invalid_backend")
        if message.version == "2.0":
            return await self._token_session(message, auth.url, auth.params)
        return await self._user_session(message, auth.url, auth.params)

    async def _internal_session(
        self, link: Link, message: ClientHello, params: dict[str, Any]
    ) -> Session:
        secret = self._secrets.internal_secret
        if not secret:
            raise _Refused("invalid_client_type")
        random, token, base = (
            str(params.get(key) or "") for key in ("random", "token", "backend")
        )
        if len(random) < 32 or not token or not base:
            raise _Refused("invalid_format")
        expected = internal_token(secret, random)
        if self._throttle.blocked("internal", link.address, time.monotonic()):
            raise _Refused("too_many_requests")
        if not hmac.compare_digest(expected.encode(), token.encode()):
            await self._fail("internal", link, "invalid_token")
        if not self._is_ours(base):
            await self._fail("internal", link, "invalid_backend")
        return self._session(
            message,
            internal=True,
            backend_url=f"{base.rstrip('/')}/{BACKEND_PATH}",
        )

    async def _user_session(
        self, message: ClientHello, url: str, params: dict[str, Any]
    ) -> Session:
        try:
            answer = await self._backend.call(url, "auth", {"params": params})
        except BackendFailure as exc:
            raise _Refused("internal_error", str(exc)) from exc
        body = answer[answer["type"]]
        if answer["type"] == "error":
            raise _Refused(str(body.get("code")), str(body.get("message")))
        if answer["type"] != "auth":
            raise _Refused("auth_failed")
        return self._session(
            message,
            internal=False,
            backend_url=url,
            user_id=str(body.get("userid") or ""),
            user=body.get("user"),
        )

    async def _token_session(
        self, message: ClientHello, url: str, params: dict[str, Any]
    ) -> Session:
        wall = datetime.now(UTC).timestamp()
        try:
            key = await self._backend.token_key(self._secrets.backend_url)
            claims = tokens.verify(str(params.get("token")), key, wall)
        except BackendFailure as exc:
            raise _Refused("internal_error", str(exc)) from exc
        except tokens.TokenRefused as exc:
            raise _Refused(exc.code) from exc
        return self._session(
            message,
            internal=False,
            backend_url=url,
            user_id=claims.user_id,
            user=claims.user,
        )

    def _session(
        self,
        message: ClientHello,
        *,
        internal: bool,
        backend_url: str,
        user_id: str = "",
        user: Any = None,
    ) -> Session:
        return Session(
            version=message.version or "1.0",
            user_id=user_id,
            user=user if isinstance(user, dict) else None,
            features=message.features or (),
            internal=internal,
            backend_url=backend_url,
            resume_id=self._resume_ids.make(),
        )

    async def _fail(self, action: str, link: Link, code: str) -> None:
        """Count a failed attempt, wait out its penalty, and refuse.

        Raises:
            _Refused: Always.
        """
        now = time.monotonic()
        if self._throttle.blocked(action, link.address, now):
            raise _Refused("too_many_requests")
        await anyio.sleep(self._throttle.fail(action, link.address, now))
        raise _Refused(code)

    def _is_ours(self, url: str) -> bool:
        base = self._secrets.backend_url
        return url == base or url.startswith(f"{base}/")
