from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from spreed_signaling.errors import RoomApiError, UsageError
from spreed_signaling.http import RoomApi, http_base_url, server_info, welcome
from spreed_signaling.protocol.auth import backend_checksum
from spreed_signaling.protocol.server_events import UserEntry
from spreed_signaling.testing._serve import AppServer, bind_socket, local_client
from spreed_signaling.types import InCallFlags

SECRET = "backendsecret"
WELCOME = {"nextcloud-spreed-signaling": "Welcome", "version": "2.0.2"}


class RoomServer:
    """The signaling server's HTTP side, remembering what came."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.welcome: Response = JSONResponse(
            WELCOME, headers={"X-Spreed-Signaling-Features": "mcu, switchto,"}
        )
        self.app = Starlette(
            routes=[
                Route("/api/v1/room/{token:path}", self.room, methods=["POST"]),
                Route("/api/v1/welcome", self.say_welcome),
                Route("/api/v1/serverinfo", self.info),
            ]
        )

    async def room(self, request: Request) -> Response:
        raw_path = request.scope["raw_path"].decode()
        self.requests.append((raw_path, dict(request.headers), await request.body()))
        return JSONResponse({}, self.status)

    async def say_welcome(self, request: Request) -> Response:
        return self.welcome

    async def info(self, request: Request) -> Response:
        return JSONResponse({"version": "2.0.2", "sfu": {"mode": "janus"}})

    @property
    def message(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.requests[-1][2])
        return data


@pytest.fixture
def server() -> RoomServer:
    return RoomServer()


@pytest.fixture
async def url(server: RoomServer) -> AsyncIterator[str]:
    async with AppServer(server.app) as running:
        yield running.url


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with local_client() as local:
        yield local


@pytest.fixture
async def api(url: str, client: httpx.AsyncClient) -> AsyncIterator[RoomApi]:
    async with RoomApi(url, "http://nc.example", SECRET, client=client) as room_api:
        yield room_api


class TestBaseUrl:
    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            ("https://hpb.example", "https://hpb.example"),
            ("https://hpb.example/", "https://hpb.example"),
            ("wss://hpb.example/spreed", "https://hpb.example"),
            ("ws://hpb.example:8080/spreed/", "http://hpb.example:8080"),
            ("HTTPS://hpb.example/signaling/spreed", "https://hpb.example/signaling"),
            ("https://spreed", "https://spreed"),
        ],
    )
    def test_every_spelling_is_accepted(self, given: str, wanted: str) -> None:
        assert http_base_url(given) == wanted

    @pytest.mark.parametrize(
        "given", ["", "hpb.example", "ftp://x", "https://", "://x"]
    )
    def test_others_are_our_mistake(self, given: str) -> None:
        with pytest.raises(UsageError):
            http_base_url(given)


class TestRooms:
    """`docs/standalone-signaling-api-v1.md`, "Rooms"."""

    async def test_requests_carry_checksum_and_backend(
        self, server: RoomServer, api: RoomApi
    ) -> None:
        await api.end_call("tok")
        path, headers, body = server.requests[0]
        assert path == "/api/v1/room/tok"
        random = headers["spreed-signaling-random"]
        assert len(random) >= 32
        assert headers["spreed-signaling-checksum"] == backend_checksum(
            SECRET, random, body
        )
        assert headers["spreed-signaling-backend"] == "http://nc.example/"
        assert headers["content-type"] == "application/json"
        assert int(headers["content-length"]) == len(body)
        await api.end_call("tok")
        assert server.requests[1][1]["spreed-signaling-random"] != random

    async def test_tokens_are_escaped(self, server: RoomServer, api: RoomApi) -> None:
        await api.end_call("a/../b")
        assert server.requests[0][0] == "/api/v1/room/a%2F..%2Fb"

    async def test_messages(self, server: RoomServer, api: RoomApi) -> None:
        alice = UserEntry(session_id="nc-1", in_call=3, user_id="alice")
        entry = {"sessionId": "nc-1", "inCall": 3, "userId": "alice"}
        flags = InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO
        await api.in_call("tok", flags, changed=[alice], users=[alice])
        assert server.message == {
            "type": "incall",
            "incall": {"incall": 3, "changed": [entry], "users": [entry]},
        }
        await api.end_call("tok")
        assert server.message == {
            "type": "incall",
            "incall": {"incall": 0, "all": True},
        }
        await api.participants("tok", changed=[alice], users=[])
        assert server.message == {
            "type": "participants",
            "participants": {"changed": [entry], "users": []},
        }
        chat = {"type": "chat", "chat": {"refresh": True}}
        await api.message("tok", chat)
        assert server.message == {"type": "message", "message": {"data": chat}}
        await api.disinvite("tok", user_ids=["alice"], all_user_ids=["bob"])
        assert server.message == {
            "type": "disinvite",
            "disinvite": {
                "userids": ["alice"],
                "sessionids": [],
                "alluserids": ["bob"],
            },
        }
        await api.switch_to("tok", "tok2", ["nc-1"])
        assert server.message == {
            "type": "switchto",
            "switchto": {"roomid": "tok2", "sessions": ["nc-1"]},
        }
        await api.delete("tok", user_ids=["bob"])
        assert server.message == {"type": "delete", "delete": {"userids": ["bob"]}}

    @pytest.mark.parametrize(
        ("status", "word", "retryable"),
        [
            (400, "Bad Request", False),
            (403, "secret", False),
            (413, "larger", False),
            (429, "attempts", True),
            (503, "Unavailable", True),
        ],
    )
    async def test_refusals_are_typed(
        self, server: RoomServer, api: RoomApi, status: int, word: str, retryable: bool
    ) -> None:
        server.status = status
        with pytest.raises(RoomApiError, match=word) as caught:
            await api.end_call("tok")
        assert caught.value.status == status
        assert caught.value.retryable is retryable
        assert SECRET not in str(caught.value)

    async def test_no_answer_is_typed(self) -> None:
        with bind_socket() as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with RoomApi(url, "http://nc.example/", SECRET) as api:
            with pytest.raises(RoomApiError) as caught:
                await api.end_call("tok")
        assert caught.value.status is None
        assert caught.value.retryable

    async def test_an_own_client_is_closed_and_a_given_one_is_not(
        self, url: str, client: httpx.AsyncClient
    ) -> None:
        async with RoomApi(url, "http://nc.example", SECRET, client=client) as api:
            await api.end_call("tok")
        assert not client.is_closed
        async with RoomApi(url, "http://nc.example", SECRET) as own:
            await own.end_call("tok")
        with pytest.raises(RuntimeError):
            await own.end_call("tok")


class TestServer:
    async def test_welcome(self, url: str, client: httpx.AsyncClient) -> None:
        found = await welcome(f"{url}/spreed", client=client)
        assert found.version == "2.0.2"
        assert found.features == {"mcu", "switchto"}
        assert await welcome(url) == found

    async def test_server_info(self, url: str, client: httpx.AsyncClient) -> None:
        assert (await server_info(url, client=client))["sfu"] == {"mode": "janus"}

    @pytest.mark.parametrize(
        "answer",
        [
            PlainTextResponse("<html>"),
            JSONResponse([]),
            JSONResponse({"version": "1"}),
            JSONResponse({}, 404),
        ],
        ids=["text", "list", "other", "missing"],
    )
    async def test_others_are_no_signaling_server(
        self,
        server: RoomServer,
        url: str,
        client: httpx.AsyncClient,
        answer: Response,
    ) -> None:
        server.welcome = answer
        with pytest.raises(RoomApiError):
            await welcome(url, client=client)
