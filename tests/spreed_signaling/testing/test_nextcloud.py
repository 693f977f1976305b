"""The stand-in by itself: the signaling server's and the ExApp's requests to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from spreed_signaling.errors import RoomApiError, UsageError
from spreed_signaling.protocol.auth import backend_checksum
from spreed_signaling.testing._serve import bind_socket, local_client
from spreed_signaling.testing.nextcloud import StandInNextcloud
from spreed_signaling.types import InCallFlags

FIXTURES = Path(__file__).parents[2] / "fixtures"
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


@pytest.fixture
async def nc() -> AsyncIterator[StandInNextcloud]:
    async with StandInNextcloud(backend_secret=SECRET) as server:
        server.add_room("demoroom", "Demo room")
        yield server


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with local_client() as client:
        yield client


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


@pytest.fixture
def backend(nc: StandInNextcloud, http: httpx.AsyncClient) -> Backend:
    return Backend(nc, http)


def auth(user_id: str, ticket: str) -> dict[str, Any]:
    params = {"userid": user_id, "ticket": ticket}
    return {"type": "auth", "auth": {"version": "1.0", "params": params}}


def room(nc_session_id: str, token: str = "demoroom", **more: str) -> dict[str, Any]:
    inner = {"version": "1.0", "roomid": token, "sessionid": nc_session_id, **more}
    return {"type": "room", "room": inner}


class TestBackendRequests:
    """`docs/standalone-signaling-api-v1.md`, "Backend requests"."""

    async def test_a_ticket_is_worth_a_user(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice A.")
        answer = await backend.send(auth("alice", alice.auth.ticket))
        assert answer == {
            "type": "auth",
            "auth": {
                "version": "1.0",
                "userid": "alice",
                "user": {"displayname": "Alice A."},
            },
        }

    async def test_a_guest_has_no_user_id(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        guest = nc.add_member("demoroom", "", "Guest")
        answer = await backend.send(auth("", guest.auth.ticket))
        assert answer == {"type": "auth", "auth": {"version": "1.0"}}

    @pytest.mark.parametrize("user_id", ["bob", ""])
    async def test_a_ticket_is_refused_for_another_user(
        self, nc: StandInNextcloud, backend: Backend, user_id: str
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        answer = await backend.send(auth(user_id, alice.auth.ticket))
        assert answer["error"]["code"] == "invalid_ticket"

    async def test_an_invented_ticket_is_refused(self, backend: Backend) -> None:
        answer = await backend.send(auth("alice", "invented"))
        assert answer["error"]["code"] == "invalid_ticket"

    async def test_wrong_secret_is_refused(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        backend.secret = "other"
        answer = await backend.send(auth("alice", alice.auth.ticket))
        assert answer["error"]["code"] == "invalid_request"

    async def test_short_random_is_refused(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        backend.random = "short"
        answer = await backend.send(auth("alice", alice.auth.ticket))
        assert answer["error"]["code"] == "invalid_request"

    async def test_joining_and_leaving_a_room(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice", permissions=("control",))
        answer = await backend.send(room(alice.nc_session_id, userid="alice"))
        assert answer == {
            "type": "room",
            "room": {
                "version": "1.0",
                "roomid": "demoroom",
                "properties": {"name": "Demo room", "type": 2},
                "permissions": ["control"],
            },
        }
        left = await backend.send(room(alice.nc_session_id, action="leave"))
        assert left["room"]["roomid"] == "demoroom"
        assert [request.summary for request in nc.requests] == [
            "room join demoroom",
            "room leave demoroom",
        ]

    async def test_old_talk_sends_no_permissions(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice", permissions=None)
        answer = await backend.send(room(alice.nc_session_id))
        assert "permissions" not in answer["room"]

    async def test_a_session_of_another_room_is_not_invited(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        nc.add_room("other")
        alice = nc.add_member("other", "alice", "Alice")
        answer = await backend.send(room(alice.nc_session_id))
        assert answer["error"]["code"] == "no_such_room"
        answer = await backend.send(room(alice.nc_session_id, "nowhere"))
        assert answer["error"]["code"] == "no_such_room"

    async def test_ping_and_virtual_sessions(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        entry = {"userid": "alice", "sessionid": alice.nc_session_id}
        ping = {"version": "1.0", "roomid": "demoroom", "entries": [entry]}
        answer = await backend.send({"type": "ping", "ping": ping})
        assert answer == {
            "type": "room",
            "room": {"version": "1.0", "roomid": "demoroom"},
        }
        session = {"version": "1.0", "roomid": "demoroom", "action": "add"}
        answer = await backend.send(
            {"type": "session", "session": session | {"sessionid": "v1"}}
        )
        assert answer == {
            "type": "session",
            "session": {"version": "1.0", "roomid": "demoroom"},
        }

    async def test_unknown_types_are_refused(self, backend: Backend) -> None:
        answer = await backend.send({"type": "new", "new": {}})
        assert answer["type"] == "error"

    async def test_recorded_requests_verify(
        self, nc: StandInNextcloud, http: httpx.AsyncClient
    ) -> None:
        """The exact bytes and checksums of a real server are accepted."""
        trace = (FIXTURES / "signaling-trace.jsonl").read_text().splitlines()
        lines = [json.loads(line) for line in trace]
        posts = [
            line for line in lines if (line["who"], line["dir"]) == ("backend", "POST")
        ]
        assert len(posts) > 20
        for line in posts:
            body = json.dumps(line["msg"], separators=(",", ":"))
            answer = await http.post(
                f"{nc.url}/ocs/v2.php/apps/spreed/api/v3/signaling/backend",
                content=body,
                headers={
                    key: value
                    for key, value in line["headers"].items()
                    if key not in {"Host", "Content-Length", "Accept-Encoding"}
                },
            )
            data = answer.json()["ocs"]["data"]
            if data["type"] == "error":
                # The recorded tickets and sessions are not ours.
                assert data["error"]["code"] in {"invalid_ticket", "no_such_room"}

    async def test_the_server_sees_signaling_v3(
        self, nc: StandInNextcloud, http: httpx.AsyncClient
    ) -> None:
        answer = await http.get(f"{nc.url}/ocs/v2.php/cloud/capabilities")
        spreed = answer.json()["ocs"]["data"]["capabilities"]["spreed"]
        assert "signaling-v3" in spreed["features"]
        assert "BEGIN PUBLIC KEY" in spreed["config"]["signaling"]["hello-v2-token-key"]


class TestMembers:
    async def test_session_ids_look_like_talks(self, nc: StandInNextcloud) -> None:
        ids = {nc.add_member("demoroom", "a", "A").nc_session_id for _ in range(50)}
        assert len(ids) == 50
        for session_id in ids:
            assert len(session_id) == 255
            assert {"+", "/"} <= set(session_id)

    async def test_names_and_secrets_stay_out_of_repr(
        self, nc: StandInNextcloud
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice Secret")
        for hidden in ("Alice Secret", alice.auth.ticket, alice.nc_session_id):
            assert hidden not in repr(alice)

    async def test_unknown_rooms_are_our_mistake(self, nc: StandInNextcloud) -> None:
        with pytest.raises(UsageError, match="add_room"):
            nc.add_member("nowhere", "alice", "Alice")

    async def test_calls_need_a_signaling_server(self, nc: StandInNextcloud) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        with pytest.raises(UsageError, match="hpb_url"):
            await nc.join_call(alice)

    async def test_a_dead_signaling_server_is_a_typed_error(
        self, nc: StandInNextcloud, free_url: str
    ) -> None:
        alice = nc.add_member("demoroom", "alice", "Alice")
        nc.hpb_url = free_url
        with pytest.raises(RoomApiError) as caught:
            await nc.join_call(alice, InCallFlags.IN_CALL)
        assert caught.value.status is None
        assert caught.value.retryable


@pytest.fixture
def free_url() -> str:
    sock = bind_socket()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    return url


class TestAppApiEndpoints:
    """The ExApp's recorded requests, answered by the stand-in."""

    @pytest.fixture
    def app(self, nc: StandInNextcloud) -> StandInNextcloud:
        nc.register_exapp(url="http://127.0.0.1:1", secret=APP_SECRET)
        assert nc.exapp is not None
        nc.exapp.enabled = True
        nc.hpb_url = "http://127.0.0.1:28280"
        nc.add_member("demoroom", "alice", "Alice")
        return nc

    async def replay(
        self, nc: StandInNextcloud, http: httpx.AsyncClient, line: dict[str, Any]
    ) -> httpx.Response:
        skipped = {"content-length", "cookie"}
        headers = {k: v for k, v in line["headers"].items() if k.lower() not in skipped}
        url = f"{nc.url}{line['path']}?{line['query']}"
        return await http.request(
            line["method"], url, headers=headers, content=line["body"]
        )

    @pytest.mark.parametrize(
        "line",
        lifecycle("exapp->nextcloud"),
        ids=lambda line: f"{line['seq']}-{line['path'].rpartition('/')[2]}",
    )
    async def test_answers_have_the_recorded_shape(
        self, app: StandInNextcloud, http: httpx.AsyncClient, line: dict[str, Any]
    ) -> None:
        if line["path"].endswith("get-values"):
            assert app.exapp is not None
            app.exapp.config["probe"] = "1"
        answer = await self.replay(app, http, line)
        assert answer.status_code == line["status"]
        recorded = json.loads(line["response"])
        # Task types belong to another app than those the stand-in plays.
        app_api = recorded["ocs"]["data"]
        if isinstance(app_api, dict) and "capabilities" in app_api:
            app_api["capabilities"]["app_api"].pop("text_processing", None)
            app_api["capabilities"].pop("bruteforce")
        ours = answer.json()
        assert missing(recorded, ours) == []
        assert ours["ocs"]["meta"] == recorded["ocs"]["meta"]

    async def test_slashes_are_escaped_as_php_does(
        self, app: StandInNextcloud, http: httpx.AsyncClient
    ) -> None:
        line = lifecycle("exapp->nextcloud")[-1]
        assert line["path"].endswith("signaling/settings")
        answer = await self.replay(app, http, line)
        assert "http:\\/\\/127.0.0.1:28280" in answer.text
        assert answer.json()["ocs"]["data"]["server"] == "http://127.0.0.1:28280"

    async def test_the_log_level_is_told_in_the_name_of_users_only(
        self, app: StandInNextcloud, http: httpx.AsyncClient
    ) -> None:
        levels = {}
        for line in lifecycle("exapp->nextcloud"):
            if line["path"].endswith("capabilities"):
                data = (await self.replay(app, http, line)).json()["ocs"]["data"]
                user = line["headers"]["AUTHORIZATION-APP-API"]
                levels[user] = "loglevel" in data["capabilities"]["app_api"]
        assert sorted(levels.values()) == [False, True]

    @pytest.mark.parametrize(
        "change",
        [
            {"AUTHORIZATION-APP-API": "Ondyb25n"},  # :wrong
            {"AUTHORIZATION-APP-API": "not base64"},
            {"AUTHORIZATION-APP-API": "Zm9v"},  # no colon
            {"AUTHORIZATION-APP-API": None},
            {"EX-APP-ID": "other"},
            {"EX-APP-VERSION": None},
            # mallory:fake-app-secret-0001, whom nobody knows
            {"AUTHORIZATION-APP-API": "bWFsbG9yeTpmYWtlLWFwcC1zZWNyZXQtMDAwMQ=="},
        ],
    )
    async def test_others_than_the_exapp_are_refused(
        self,
        app: StandInNextcloud,
        http: httpx.AsyncClient,
        change: dict[str, str | None],
    ) -> None:
        line = lifecycle("exapp->nextcloud")[-1]
        headers = {**line["headers"], **change}
        headers = {k: v for k, v in headers.items() if v is not None}
        answer = await self.replay(app, http, line | {"headers": headers})
        assert answer.status_code == 401
        assert APP_SECRET not in answer.text
        assert not app.requests

    async def test_a_disabled_app_may_only_ask_for_its_state(
        self, app: StandInNextcloud, http: httpx.AsyncClient
    ) -> None:
        assert app.exapp is not None
        app.exapp.enabled = False
        line = lifecycle("exapp->nextcloud")[-1]
        assert (await self.replay(app, http, line)).status_code == 401
        path = "/ocs/v1.php/apps/app_api/ex-app/state"
        answer = await self.replay(app, http, line | {"path": path})
        assert answer.json()["ocs"]["data"] == 0

    async def test_progress_out_of_range_is_refused(
        self, app: StandInNextcloud, http: httpx.AsyncClient
    ) -> None:
        line = next(
            line
            for line in lifecycle("exapp->nextcloud")
            if line["path"].endswith("status")
        )
        body = '{"progress": -1, "error": "x"}'
        answer = await self.replay(app, http, line | {"body": body})
        assert answer.status_code == 500
        assert answer.json()["ocs"]["meta"]["status"] == "failure"

    async def test_unknown_paths_are_ocs_failures(
        self, app: StandInNextcloud, http: httpx.AsyncClient
    ) -> None:
        answer = await http.get(f"{app.url}/ocs/v2.php/apps/nothing")
        assert answer.status_code == 404
        assert answer.json()["ocs"]["meta"]["status"] == "failure"


class TestSignalingSettings:
    @pytest.fixture
    async def ask(self, nc: StandInNextcloud, http: httpx.AsyncClient) -> Any:
        nc.register_exapp(url="http://127.0.0.1:1", secret=APP_SECRET)
        assert nc.exapp is not None
        nc.exapp.enabled = True
        app = nc.exapp

        async def ask() -> httpx.Response:
            return await http.get(
                f"{nc.url}/ocs/v2.php/apps/spreed/api/v3/signaling/settings",
                headers=app.headers(),
            )

        return ask

    async def test_names_servers_and_mode(self, nc: StandInNextcloud, ask: Any) -> None:
        assert (await ask()).json()["ocs"]["data"]["signalingMode"] == "internal"
        nc.hpb_url = "http://127.0.0.1:5"
        nc.settings.stun_servers = [{"urls": ["stun:127.0.0.1:3478"]}]
        data = (await ask()).json()["ocs"]["data"]
        assert data["signalingMode"] == "external"
        assert data["server"] == "http://127.0.0.1:5"
        assert data["stunservers"] == [{"urls": ["stun:127.0.0.1:3478"]}]
        nc.settings.server = ""
        assert (await ask()).json()["ocs"]["data"]["server"] == ""

    async def test_can_be_closed_to_apps(self, nc: StandInNextcloud, ask: Any) -> None:
        nc.settings.available = False
        assert (await ask()).status_code == 403


class TestWaiting:
    async def test_finds_requests_of_the_past_and_the_future(
        self, nc: StandInNextcloud, backend: Backend
    ) -> None:
        with pytest.raises(TimeoutError):
            await nc.wait_for_request(lambda r: r.summary == "auth", 0.05)
        await backend.send(auth("alice", "invented"))
        found = await nc.wait_for_request(lambda r: r.summary == "auth")
        assert found.method == "POST"
        assert "invented" not in repr(found)
