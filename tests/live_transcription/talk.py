# SPDX-License-Identifier: AGPL-3.0-or-later
"""AppAPI's requests to a running application."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
from fastapi import FastAPI

SECRET = "app-secret-of-the-tests"

ENVIRONMENT = {
    "APP_SECRET": SECRET,
    "APP_ID": "live_transcription",
    "APP_VERSION": "3.0.0",
    # Nothing listens on these: they are ports of the reserved range.
    "NEXTCLOUD_URL": "http://127.0.0.1:9",
    "LT_HPB_URL": "http://127.0.0.1:7",
    "LT_INTERNAL_SECRET": "internal-secret-of-the-tests",
    "LT_STUN_URLS": "none",
}


class Talk:
    """Sends what AppAPI sends; without a user, as for guests."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        self.app = app
        self.client = client

    @staticmethod
    def headers(
        secret: str = SECRET,
        *,
        user_id: str = "",
        app_id: str = "live_transcription",
        version: str = "3.0.0",
    ) -> dict[str, str]:
        pair = base64.b64encode(f"{user_id}:{secret}".encode()).decode()
        return {
            "AA-VERSION": "5.0.2",
            "EX-APP-ID": app_id,
            "EX-APP-VERSION": version,
            "AUTHORIZATION-APP-API": pair,
            "AA-REQUEST-ID": "CLI",
        }

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.client.get(path, params=params, headers=self.headers())

    async def post(self, path: str, json: Any) -> httpx.Response:
        return await self.client.post(path, json=json, headers=self.headers())

    async def put(self, path: str, **params: Any) -> httpx.Response:
        return await self.client.put(path, params=params, headers=self.headers())

    async def transcribe(
        self, room: str = "abcd1234", reader: str = "nc1", **more: Any
    ) -> httpx.Response:
        body = {"roomToken": room, "ncSessionId": reader, "enable": True} | more
        return await self.post("/api/v1/call/transcribe", body)

    async def status(self) -> dict[str, Any]:
        answer = await self.get("/api/v1/status")
        assert answer.status_code == 200
        status: dict[str, Any] = answer.json()
        return status


StartTalk = Callable[..., AbstractAsyncContextManager[Talk]]
