# SPDX-License-Identifier: MIT
"""Requests to Nextcloud's signaling backend endpoint."""

from __future__ import annotations

import json
from typing import Any

import httpx

from ...protocol.auth import backend_checksum, make_random
from .frames import features
from .options import VERSION

__all__ = ["BackendClient", "BackendFailure"]


class BackendFailure(Exception):
    """Nextcloud did not give a usable answer."""


class BackendClient:
    """Signs requests to Nextcloud and unwraps the answers.

    Args:
        secret: The secret shared with Nextcloud.
        timeout_s: Limit of each request, seconds.
        media: Whether a media server is there (announced in a header).
    """

    def __init__(self, secret: str, *, timeout_s: float, media: bool) -> None:
        self._secret = secret
        self._features = ", ".join(features(media=media, internal=False))
        self._client = httpx.AsyncClient(timeout=timeout_s, trust_env=False)
        self._token_key: str | None = None

    async def call(self, url: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request.

        Args:
            url: The full backend URL.
            kind: `auth`, `room` or `ping`.
            body: What goes below the key `kind`.

        Returns:
            The answer without its OCS envelope: `{"type": T, T: {...}}`.

        Raises:
            BackendFailure: If there is none, or not one of Nextcloud's.
        """
        payload = {"type": kind, kind: {"version": "1.0", **body}}
        content = json.dumps(payload, separators=(",", ":")).encode()
        try:
            response = await self._client.post(
                url, content=content, headers=self._headers(content)
            )
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise BackendFailure(f"no answer from Nextcloud: {exc!r}") from exc
        return self._unwrap(response)

    async def token_key(self, base_url: str) -> str:
        """Return the public key of hello 2.0 tokens from Nextcloud's capabilities.

        Raises:
            BackendFailure: If there is none.
        """
        if self._token_key is None:
            url = f"{base_url}/ocs/v2.php/cloud/capabilities"
            headers = {"Accept": "application/json", "OCS-APIRequest": "true"}
            try:
                response = await self._client.get(url, headers=headers)
                data = response.json()["ocs"]["data"]["capabilities"]["spreed"]
                self._token_key = str(data["config"]["signaling"]["hello-v2-token-key"])
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as exc:
                raise BackendFailure("no token key in the capabilities") from exc
        return self._token_key

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _headers(self, content: bytes) -> dict[str, str]:
        random = make_random()
        return {
            "User-Agent": f"nextcloud-spreed-signaling/{VERSION}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "OCS-APIRequest": "true",
            "Spreed-Signaling-Random": random,
            "Spreed-Signaling-Checksum": backend_checksum(
                self._secret, random, content
            ),
            "X-Spreed-Signaling-Features": self._features,
        }

    def _unwrap(self, response: httpx.Response) -> dict[str, Any]:
        content_type = response.headers.get("Content-Type", "")
        if not content_type.startswith("application/json"):
            raise BackendFailure("unsupported_content_type")
        try:
            ocs = response.json()["ocs"]
            code, data = ocs["meta"].get("statuscode"), ocs["data"]
            usable = code != 429 and isinstance(data[data["type"]], dict)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise BackendFailure("unexpected answer from Nextcloud") from exc
        if not usable:
            raise BackendFailure("Nextcloud throttles requests")
        if not isinstance(data, dict):
            raise AssertionError("indexing by two keys worked, so this is an object")
        return data
