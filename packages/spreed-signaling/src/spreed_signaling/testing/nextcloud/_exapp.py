# SPDX-License-Identifier: MIT
"""AppAPI's side towards an ExApp: requests to it and its lifecycle.

Source:
    AppAPI 5.0.2 with Nextcloud 31.0.6, recorded: heartbeat, init, and enabling
    nested inside the ExApp's own progress report.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json as json_module
from collections.abc import Mapping
from typing import Any

import anyio
import httpx
from attrs import define, field

from ...errors import UsageError
from ._errors import ExAppFailed, ExAppUnreachable

__all__ = ["ExApp", "ExAppHost", "php_json"]

AA_VERSION = "5.0.2"
_ENABLED_TIMEOUT_S = 60.0
_HEARTBEAT_EVERY_S = 0.1
"""AppAPI itself waits one second between two tries."""

_NO_INIT = {404, 501}


@define(kw_only=True)
class ExApp:
    """A registered ExApp."""

    url: str
    app_id: str
    secret: str = field(repr=False)
    version: str
    enabled: bool = False
    installing: bool = False
    progress: int = 0
    """Percent, as the ExApp reported it."""
    error: str = ""
    config: dict[str, str] = field(factory=dict, repr=False)

    def headers(self, user_id: str = "", *, language: bool = True) -> dict[str, str]:
        """Return the headers of an authenticated request to the ExApp."""
        pair = f"{user_id}:{self.secret}".encode()
        headers = {
            "AA-VERSION": AA_VERSION,
            "EX-APP-ID": self.app_id,
            "EX-APP-VERSION": self.version,
            "AUTHORIZATION-APP-API": base64.b64encode(pair).decode(),
            "AA-REQUEST-ID": "CLI",
            "User-Agent": "Nextcloud Server Crawler",
            "Accept-Encoding": "gzip",
        }
        if language:
            headers["Accept-Language"] = "en"
        return headers

    def authenticate(self, headers: Mapping[str, str]) -> str | None:
        """Return the user id of a request by the ExApp, None if it is not its own."""
        try:
            pair = base64.b64decode(
                headers.get("authorization-app-api", ""), validate=True
            ).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user_id, colon, secret = pair.partition(":")
        same = hmac.compare_digest(secret.encode(), self.secret.encode())
        if not colon or not same or headers.get("ex-app-id") != self.app_id:
            return None
        return user_id if headers.get("ex-app-version") else None


def php_json(data: Any) -> bytes:
    """Encode as PHP does, which puts a backslash before every slash."""
    return json_module.dumps(data, separators=(",", ":")).replace("/", "\\/").encode()


class ExAppHost:
    """The one ExApp of a stand-in, or none, and what AppAPI does with it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._app: ExApp | None = None
        self._deployed = anyio.Event()

    @property
    def app(self) -> ExApp | None:
        """The registered ExApp, None before `register`."""
        return self._app

    def register(self, app: ExApp) -> None:
        """Make an ExApp known, replacing the one before."""
        self._app = app
        self._deployed = anyio.Event()

    def _registered(self) -> ExApp:
        if self._app is None:
            raise UsageError("no ExApp is registered; call register_exapp first")
        return self._app

    async def request(
        self, method: str, path: str, *, user_id: str, json: Any, timeout_s: float
    ) -> httpx.Response:
        """Send what Talk's `exAppRequest` sends.

        Raises:
            ExAppUnreachable: If there is no answer within `timeout_s` in all.
        """
        headers = self._registered().headers(user_id)
        if method == "GET":
            return await self._send(method, path, headers, params=json, limit=timeout_s)
        headers["Content-Type"] = "application/json"
        body = php_json({} if json is None else json)
        return await self._send(method, path, headers, body=body, limit=timeout_s)

    async def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        params: dict[str, Any] | None = None,
        body: bytes | None = None,
        limit: float,
    ) -> httpx.Response:
        url = self._registered().url.rstrip("/") + "/" + path.lstrip("/")
        try:
            # AppAPI's limit is for the whole request, httpx's for each step of it.
            with anyio.fail_after(limit):
                return await self._client.request(
                    method,
                    url,
                    headers=headers,
                    params=params,
                    content=body,
                    timeout=limit,
                )
        except TimeoutError as exc:
            raise ExAppUnreachable(method, path, f"nothing after {limit:g} s") from exc
        except httpx.HTTPError as exc:
            reason = str(exc) or type(exc).__name__
            raise ExAppUnreachable(method, path, reason) from exc

    async def heartbeat(self, timeout_s: float) -> None:
        """Ask until the ExApp is alive.

        Raises:
            ExAppFailed: If it is not within `timeout_s`.
        """
        # On a manual-install daemon the heartbeat carries no AppAPI headers.
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "Nextcloud Server Crawler",
        }
        reason = "no answer"
        with anyio.move_on_after(timeout_s):
            while True:
                try:
                    answer = await self._send("GET", "/heartbeat", headers, limit=5.0)
                except ExAppUnreachable as exc:
                    reason = exc.reason
                else:
                    if answer.status_code == 200 and _field(answer, "status") == "ok":
                        return
                    reason = f"HTTP {answer.status_code}"
                await anyio.sleep(_HEARTBEAT_EVERY_S)
        raise ExAppFailed("heartbeat", reason)

    async def deploy(self, timeout_s: float) -> None:
        """Do what `occ app_api:app:register` does, up to the enabled app.

        Raises:
            ExAppFailed: If a step fails or takes longer than `timeout_s` in all.
            ExAppUnreachable: If the ExApp does not answer `/init`.
        """
        app = self._registered()
        self._deployed = anyio.Event()
        await self.heartbeat(timeout_s)
        app.installing, app.progress, app.error = True, 0, ""
        try:
            headers = app.headers(language=False)
            answer = await self._send("POST", "/init", headers, limit=timeout_s)
            if answer.status_code in _NO_INIT:
                await self.report_progress(100, "")
            elif answer.is_error:
                raise ExAppFailed("init", f"HTTP {answer.status_code}")
            with anyio.move_on_after(timeout_s) as scope:
                await self._deployed.wait()
            if scope.cancelled_caught:
                raise ExAppFailed("init", f"progress stayed at {app.progress} %")
            if app.error:
                raise ExAppFailed("init", app.error)
        finally:
            app.installing = False

    async def report_progress(self, progress: int, error: str) -> None:
        """Take the ExApp's progress report; at 100 % enable it within the call.

        Nextcloud does that before it answers the report, so an ExApp that serves
        one request at a time deadlocks here, as with the real one.
        """
        app = self._registered()
        if app.progress == 100 and progress:
            # After 100 further reports are ignored.
            return
        app.progress, app.error = progress, error
        if error:
            self._deployed.set()
        elif progress == 100 and app.installing:
            try:
                await self.heartbeat(_ENABLED_TIMEOUT_S)
                await self.set_enabled(True)
            except (ExAppFailed, ExAppUnreachable) as exc:
                app.error = str(exc)
            self._deployed.set()

    async def set_enabled(self, enabled: bool) -> None:
        """Enable or disable the ExApp.

        Raises:
            ExAppFailed: If it reports an error; it is disabled then.
            ExAppUnreachable: If it does not answer; it is disabled then.
        """
        app = self._registered()
        if enabled:
            # Its enabled handler may already call Nextcloud.
            app.enabled = True
        failure = True
        try:
            answer = await self._send(
                "PUT",
                "/enabled",
                app.headers(),
                params={"enabled": int(enabled)},
                limit=_ENABLED_TIMEOUT_S,
            )
            # AppAPI looks at the `error` key only; a plain-text 500 is a success.
            reason = _field(answer, "error")
            if reason:
                raise ExAppFailed("enabled", str(reason))
            failure = False
        finally:
            app.enabled = enabled and not failure


def _field(answer: httpx.Response, key: str) -> Any:
    try:
        data = answer.json()
    except ValueError:
        return None
    return data.get(key) if isinstance(data, dict) else None
