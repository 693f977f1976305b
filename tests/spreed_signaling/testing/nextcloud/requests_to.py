"""Requests to the stand-in, as the signaling server and an ExApp make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from spreed_signaling.protocol.auth import backend_checksum
from spreed_signaling.testing.nextcloud import StandInNextcloud

FIXTURES = Path(__file__).parents[3] / "fixtures"


SECRET = "fake-backend-secret"


APP_SECRET = "fake-app-secret-0001"


def lifecycle(direction: str, scenario: str = "register") -> list[dict[str, Any]]:
    text = (FIXTURES / "appapi-lifecycle.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [
        line
        for line in lines
        if line["direction"] == direction and line["scenario"] == scenario
    ]


def shape(value: Any) -> Any:
    """Keys and types, without values; lists by their first element."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def missing(recorded: Any, ours: Any, path: str = "") -> list[str]:
    """Paths that a recorded answer has and ours has not, or of another type."""
    if isinstance(recorded, dict):
        if not isinstance(ours, dict):
            return [path]
        found = []
        for key, value in recorded.items():
            if key not in ours:
                found.append(f"{path}/{key}")
            else:
                found += missing(value, ours[key], f"{path}/{key}")
        return found
    return [] if shape(recorded) == shape(ours) else [path]


class Backend:
    """The signaling server's side of the backend endpoint."""

    def __init__(self, nc: StandInNextcloud, http: httpx.AsyncClient) -> None:
        self.url = f"{nc.url}/ocs/v2.php/apps/spreed/api/v3/signaling/backend"
        self.http = http
        self.secret = SECRET
        self.random = "r" * 64

    async def send(self, message: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(message, separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "Spreed-Signaling-Random": self.random,
            "Spreed-Signaling-Checksum": backend_checksum(
                self.secret, self.random, body
            ),
        }
        answer = await self.http.post(self.url, content=body, headers=headers)
        assert answer.headers["content-type"].startswith("application/json")
        ocs = answer.json()["ocs"]
        assert ocs["meta"] == {"status": "ok", "statuscode": 200, "message": "OK"}
        data: dict[str, Any] = ocs["data"]
        return data


def auth(user_id: str, ticket: str) -> dict[str, Any]:
    params = {"userid": user_id, "ticket": ticket}
    return {"type": "auth", "auth": {"version": "1.0", "params": params}}


def room(nc_session_id: str, token: str = "demoroom", **more: str) -> dict[str, Any]:
    inner = {"version": "1.0", "roomid": token, "sessionid": nc_session_id, **more}
    return {"type": "room", "room": inner}
