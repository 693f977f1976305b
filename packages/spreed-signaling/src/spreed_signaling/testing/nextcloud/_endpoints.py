# SPDX-License-Identifier: MIT
"""What the stand-in's OCS endpoints answer.

Source:
    Nextcloud 31.0.6, AppAPI 5.0.2 and Talk 21.1.0, recorded; capabilities are
    cut down to what clients need.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from attrs import define, field

from ...errors import ProtocolViolation
from ...protocol.backend import parse_backend
from ._backend import answer_backend, checksum_ok, error, summarise
from ._exapp import AA_VERSION, ExAppHost
from ._ocs import Endpoint, OcsError, OcsRequest
from ._state import Rooms
from ._tokens import TokenSigner

__all__ = ["BACKEND_PATH", "Endpoints", "PUBLIC_PATHS", "TalkSettings"]

BACKEND_PATH = "/apps/spreed/api/v3/signaling/backend"
_SETTINGS_PATH = "/apps/spreed/api/v3/signaling/settings"
_CAPABILITIES_PATH = "/cloud/capabilities"
_APP_API = "/apps/app_api"
PUBLIC_PATHS = {BACKEND_PATH, _CAPABILITIES_PATH}
"""Endpoints that others than the ExApp use: the signaling server does."""

_FEATURES = ["audio", "video", "in-call-flags", "signaling-v3", "federation-v2"]
_LOG_LEVEL = 2


@define(kw_only=True)
class TalkSettings:
    """What an administrator sets up in Talk; change it at any time."""

    stun_servers: list[dict[str, Any]] = field(factory=list)
    """Talk's form: `{"urls": ["stun:HOST:PORT"]}`."""
    turn_servers: list[dict[str, Any]] = field(factory=list, repr=False)
    """Talk's form: `{"urls": [...], "username": ..., "credential": ...}`."""
    server: str | None = None
    """Signaling server told to clients; None for the stand-in's `hpb_url`, empty
    for a Talk without one (`signalingMode` is `internal` then)."""
    available: bool = True
    """False refuses the settings to ExApps, as some Talk 22 and 23 releases do."""


class Endpoints:
    """The answers, by method and path."""

    def __init__(
        self,
        rooms: Rooms,
        exapps: ExAppHost,
        settings: TalkSettings,
        signer: TokenSigner,
        *,
        backend_secret: str,
        url: str,
    ) -> None:
        self._rooms = rooms
        self._exapps = exapps
        self._settings = settings
        self._signer = signer
        self._backend_secret = backend_secret
        self._url = url
        self.hpb_url = ""
        """Signaling server that settings name if they do not say another."""

    def table(self) -> dict[tuple[str, str], Endpoint]:
        """Return all endpoints by method and path below `/ocs/v?.php`."""
        return {
            ("GET", _CAPABILITIES_PATH): self._capabilities,
            ("POST", BACKEND_PATH): self._backend,
            ("GET", _SETTINGS_PATH): self._signaling_settings,
            ("GET", f"{_APP_API}/ex-app/state"): self._state,
            ("PUT", f"{_APP_API}/ex-app/status"): self._status,
            ("POST", f"{_APP_API}/api/v1/log"): self._log,
            ("POST", f"{_APP_API}/api/v1/ex-app/config"): self._set_config,
            ("POST", f"{_APP_API}/api/v1/ex-app/config/get-values"): self._get_config,
            ("GET", f"{_APP_API}/api/v1/users"): self._users,
        }

    def summarise(self, request: OcsRequest) -> str:
        """Describe a request in a few words for `StandInNextcloud.requests`."""
        if request.path.endswith(BACKEND_PATH):
            try:
                return summarise(parse_backend(request.body))
            except ProtocolViolation:
                return "not readable"
        return request.path.rpartition(".php")[2].rpartition("/")[2]

    async def _capabilities(self, request: OcsRequest) -> Any:
        app_api: dict[str, Any] = {"version": AA_VERSION}
        if request.user_id:
            # The log level is only told to requests in the name of a user.
            app_api = {"loglevel": _LOG_LEVEL, **app_api}
        signaling: dict[str, Any] = {"session-ping-limit": 200}
        if self._signer.public_key is not None:
            signaling["hello-v2-token-key"] = self._signer.public_key
        version = {"major": 31, "minor": 0, "micro": 6, "string": "31.0.6"}
        spreed = {
            "features": _FEATURES,
            "version": "21.1.0",
            "config": {"signaling": signaling},
        }
        return {
            "version": {**version, "edition": "", "extendedSupport": False},
            "capabilities": {"app_api": app_api, "spreed": spreed},
        }

    async def _backend(self, request: OcsRequest) -> Any:
        if not checksum_ok(self._backend_secret, request.headers, request.body):
            refused = error(
                "invalid_request", "The request could not be authenticated."
            )
            return refused.to_envelope()
        try:
            message = parse_backend(request.body)
        except ProtocolViolation as exc:
            raise OcsError(400, "not a backend request") from exc
        now = int(datetime.now(UTC).timestamp())
        return answer_backend(self._rooms, message, now).to_envelope()

    async def _signaling_settings(self, request: OcsRequest) -> Any:
        if not self._settings.available:
            raise OcsError(403, "The settings are not available to this app.")
        server = self._settings.server
        if server is None:
            server = self.hpb_url
        user_id = request.user_id or ""
        ticket = f"{secrets.token_urlsafe(12)}:{user_id}:{secrets.token_hex(32)}"
        hello: dict[str, Any] = {"1.0": {"userid": user_id or None, "ticket": ticket}}
        if self._signer.public_key is not None:
            token = self._signer.sign(self._url, user_id, user_id)
            hello["2.0"] = {"token": token}
        return {
            "signalingMode": "external" if server else "internal",
            "userId": user_id or None,
            "hideWarning": bool(server),
            "server": server,
            "ticket": ticket,
            "helloAuthParams": hello,
            "federation": None,
            "stunservers": self._settings.stun_servers,
            "turnservers": self._settings.turn_servers,
            "sipDialinInfo": "",
        }

    async def _state(self, request: OcsRequest) -> Any:
        app = self._exapps.app
        return int(app is not None and app.enabled)

    async def _status(self, request: OcsRequest) -> Any:
        body = request.json()
        progress, text = body.get("progress"), body.get("error", "")
        if type(progress) is not int or not 0 <= progress <= 100:
            # So -1 never reports a failure: that is a text with a progress in range.
            raise OcsError(500, "Invalid progress value")
        await self._exapps.report_progress(progress, str(text))
        return []

    async def _log(self, request: OcsRequest) -> Any:
        if not {"level", "message"} <= request.json().keys():
            raise OcsError(400, "level and message are needed")
        return []

    async def _set_config(self, request: OcsRequest) -> Any:
        body = request.json()
        config, key = self._config(), body.get("configKey")
        if not isinstance(key, str) or "configValue" not in body:
            raise OcsError(400, "configKey and configValue are needed")
        config[key] = str(body["configValue"])
        app = self._exapps.app
        return {
            "id": list(config).index(key) + 1,
            "appid": "" if app is None else app.app_id,
            "configkey": key,
            "configvalue": config[key],
            "sensitive": int(bool(body.get("sensitive", 0))),
        }

    async def _get_config(self, request: OcsRequest) -> Any:
        keys = request.json().get("configKeys")
        if not isinstance(keys, list):
            raise OcsError(400, "configKeys is needed")
        config = self._config()
        return [
            {"configkey": key, "configvalue": config[key]}
            for key in keys
            if key in config
        ]

    async def _users(self, request: OcsRequest) -> Any:
        return self._rooms.user_ids()

    def _config(self) -> dict[str, str]:
        app = self._exapps.app
        return {} if app is None else app.config
