"""AppAPI's lifecycle and Talk's requests, against a small ExApp."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from spreed_signaling.errors import UsageError
from spreed_signaling.testing._serve import AppServer, local_client
from spreed_signaling.testing.nextcloud import (
    ExAppFailed,
    ExAppUnreachable,
    Member,
    StandInNextcloud,
)
from spreed_signaling.types import InCallFlags

FIXTURES = Path(__file__).parents[3] / "fixtures"
SECRET = "fake-app-secret-0001"


class SmallExApp:
    """Answers like an ExApp and remembers what it was asked, in order."""

    def __init__(self, nc: StandInNextcloud) -> None:
        self.nc = nc
        self.seen: list[str] = []
        self.headers: dict[str, dict[str, str]] = {}
        self.bodies: dict[str, bytes] = {}
        self.enabled_error = ""
        self.init_status = 200
        self.report = {"progress": 100, "error": ""}
        self.sick = 0
        self.hang = anyio.Event()
        self.app = Starlette(
            routes=[
                Route("/heartbeat", self.heartbeat),
                Route("/init", self.init, methods=["POST"]),
                Route("/enabled", self.enabled, methods=["PUT"]),
                Route("/hang", self.hanging),
                Route("/api/{rest:path}", self.talk, methods=["GET", "POST"]),
            ]
        )

    def note(self, request: Request, text: str) -> None:
        self.seen.append(text)
        self.headers[text] = dict(request.headers)

    async def heartbeat(self, request: Request) -> Response:
        self.note(request, "heartbeat")
        if self.sick:
            self.sick -= 1
            return PlainTextResponse("not yet", 503)
        return JSONResponse({"status": "ok"})

    async def init(self, request: Request) -> Response:
        self.note(request, "init")
        if self.init_status != 200:
            return PlainTextResponse("no", self.init_status)
        return JSONResponse({}, background=BackgroundTask(self.report_progress))

    async def report_progress(self) -> None:
        await self.call("PUT", "/ocs/v1.php/apps/app_api/ex-app/status", self.report)
        self.seen.append("status answered")

    async def enabled(self, request: Request) -> Response:
        self.note(request, f"enabled={request.query_params['enabled']}")
        # An ExApp's enabled handler calls Nextcloud, which must serve meanwhile.
        answer = await self.call("GET", "/ocs/v1.php/cloud/capabilities")
        self.seen.append(f"capabilities {answer.status_code}")
        return JSONResponse({"error": self.enabled_error})

    async def hanging(self, request: Request) -> Response:
        await self.hang.wait()
        return JSONResponse({})

    async def talk(self, request: Request) -> Response:
        path = request.url.path
        self.note(request, path)
        self.bodies[path] = await request.body()
        status = int(request.query_params.get("status", 200))
        return JSONResponse({"query": request.url.query}, status)

    async def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {
            "EX-APP-ID": "live_transcription",
            "EX-APP-VERSION": "1.0.0",
            "AUTHORIZATION-APP-API": base64.b64encode(f":{SECRET}".encode()).decode(),
        }
        async with local_client() as client:
            return await client.request(
                method, f"{self.nc.url}{path}?format=json", headers=headers, json=body
            )


@pytest.fixture
async def nc() -> AsyncIterator[StandInNextcloud]:
    async with StandInNextcloud() as server:
        server.add_room("demoroom")
        yield server


@pytest.fixture
async def exapp(nc: StandInNextcloud) -> AsyncIterator[SmallExApp]:
    small = SmallExApp(nc)
    async with AppServer(small.app) as server:
        nc.register_exapp(url=server.url, secret=SECRET)
        yield small


def recorded(path: str, scenario: str) -> dict[str, Any]:
    text = (FIXTURES / "appapi-lifecycle.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    found: dict[str, Any] = next(
        line
        for line in lines
        if (line["path"], line["scenario"], line["direction"])
        == (path, scenario, "nextcloud->exapp")
    )
    return found


class TestLifecycle:
    async def test_enabling_is_nested_in_the_progress_report(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        await nc.deploy_exapp()
        assert nc.exapp is not None
        assert nc.exapp.enabled
        assert nc.exapp.progress == 100
        # The last entry comes with the answer of the report, just after ours.
        assert exapp.seen[:5] == [
            "heartbeat",
            "init",
            "heartbeat",
            "enabled=1",
            "capabilities 200",
        ]
        assert "status answered" not in exapp.seen[:5]

    @pytest.mark.parametrize(
        ("path", "seen"),
        [("/heartbeat", "heartbeat"), ("/init", "init"), ("/enabled", "enabled=1")],
    )
    async def test_headers_are_the_recorded_ones(
        self, nc: StandInNextcloud, exapp: SmallExApp, path: str, seen: str
    ) -> None:
        await nc.deploy_exapp()
        wanted = recorded(path, "register")["headers"]
        ours = exapp.headers[seen]
        for name in wanted.keys() - {"host"}:
            assert ours.get(name) == wanted[name], name
        extra = {name for name in ours if name.startswith(("ex-app", "authorization"))}
        assert extra <= wanted.keys()

    async def test_waits_for_a_healthy_heartbeat(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        exapp.sick = 2
        await nc.deploy_exapp()
        assert exapp.seen[:4] == ["heartbeat", "heartbeat", "heartbeat", "init"]

    async def test_an_app_without_init_is_enabled_at_once(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        exapp.init_status = 404
        await nc.deploy_exapp()
        assert nc.exapp is not None
        assert nc.exapp.enabled
        assert "status answered" not in exapp.seen

    async def test_a_failing_init_is_an_error(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        exapp.init_status = 500
        with pytest.raises(ExAppFailed) as caught:
            await nc.deploy_exapp()
        assert caught.value.step == "init"
        assert nc.exapp is not None
        assert not nc.exapp.enabled

    async def test_a_reported_error_is_an_error(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        exapp.report = {"progress": 30, "error": "no disk"}
        with pytest.raises(ExAppFailed, match="no disk"):
            await nc.deploy_exapp()

    async def test_progress_that_stops_is_an_error(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        exapp.report = {"progress": 30, "error": ""}
        with pytest.raises(ExAppFailed, match="30 %"):
            await nc.deploy_exapp(timeout_s=0.3)

    async def test_an_error_while_enabling_disables_again(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        exapp.enabled_error = "no signaling server"
        with pytest.raises(ExAppFailed, match="no signaling server"):
            await nc.deploy_exapp()
        assert nc.exapp is not None
        assert not nc.exapp.enabled

    async def test_the_app_may_still_call_while_it_is_disabled(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        await nc.deploy_exapp()
        exapp.seen.clear()
        await nc.set_enabled(False)
        assert [line for line in exapp.seen if line != "status answered"] == [
            "enabled=0",
            "capabilities 200",
        ]
        assert nc.exapp is not None
        assert not nc.exapp.enabled
        await nc.set_enabled(True)
        assert nc.exapp.enabled

    async def test_no_heartbeat_is_an_error(self, nc: StandInNextcloud) -> None:
        nc.register_exapp(url="http://127.0.0.1:1", secret=SECRET)
        with pytest.raises(ExAppFailed) as caught:
            await nc.deploy_exapp(timeout_s=0.3)
        assert caught.value.step == "heartbeat"

    async def test_without_a_registered_app(self, nc: StandInNextcloud) -> None:
        with pytest.raises(UsageError, match="register_exapp"):
            await nc.deploy_exapp()


class TestTalkRequests:
    @pytest.fixture
    def alice(self, nc: StandInNextcloud) -> Member:
        return nc.add_member("demoroom", "alice", "Alice")

    async def in_call(self, nc: StandInNextcloud, member: Member) -> None:
        """Note the call without a signaling server, which these tests have none of."""
        nc._rooms.state(member).in_call = InCallFlags.IN_CALL

    async def test_pressing_cc_sends_what_talk_sends(
        self, nc: StandInNextcloud, exapp: SmallExApp, alice: Member
    ) -> None:
        await self.in_call(nc, alice)
        assert (await nc.press_cc(alice)).status_code == 200
        wanted = recorded("/api/v1/call/transcribe", "calls")
        path = "/api/v1/call/transcribe"
        body = json.loads(exapp.bodies[path])
        assert body == {
            "roomToken": "demoroom",
            "ncSessionId": alice.nc_session_id,
            "enable": True,
        }
        assert list(body) == list(json.loads(wanted["body"]))
        assert b"\\/" in exapp.bodies[path]
        headers = exapp.headers[path]
        for name in wanted["headers"].keys() - {"host", "content-length"}:
            assert headers.get(name) == wanted["headers"][name], name

    async def test_the_language_of_the_room_goes_with_it(
        self, nc: StandInNextcloud, exapp: SmallExApp, alice: Member
    ) -> None:
        await self.in_call(nc, alice)
        await nc.set_language(alice, "fr")
        assert json.loads(exapp.bodies["/api/v1/call/set-language"]) == {
            "roomToken": "demoroom",
            "langId": "fr",
        }
        await nc.press_cc(alice)
        body = json.loads(exapp.bodies["/api/v1/call/transcribe"])
        assert body["langId"] == "fr"
        await nc.press_cc(alice, enable=False)
        body = json.loads(exapp.bodies["/api/v1/call/transcribe"])
        assert body["enable"] is False
        assert "langId" not in body

    async def test_talk_refuses_cc_outside_of_a_call(
        self, nc: StandInNextcloud, exapp: SmallExApp, alice: Member
    ) -> None:
        answer = await nc.press_cc(alice)
        assert (answer.status_code, answer.json()) == (400, {"error": "in-call"})
        assert not exapp.seen

    async def test_guests_have_an_empty_user(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        guest = nc.add_member("demoroom", "", "Guest")
        await self.in_call(nc, guest)
        await nc.press_cc(guest)
        header = exapp.headers["/api/v1/call/transcribe"]["authorization-app-api"]
        assert base64.b64decode(header) == f":{SECRET}".encode()

    async def test_get_parameters_are_a_query(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        answer = await nc.exapp_request("GET", "/api/v1/x", json={"roomToken": "tok"})
        assert answer.json() == {"query": "roomToken=tok"}

    async def test_refusals_are_returned(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        answer = await nc.exapp_request("GET", "/api/v1/x", json={"status": 503})
        assert answer.status_code == 503

    async def test_the_limit_is_for_the_whole_request(
        self, nc: StandInNextcloud, exapp: SmallExApp
    ) -> None:
        with pytest.raises(ExAppUnreachable, match="0.2 s"):
            await nc.exapp_request("GET", "/hang", timeout_s=0.2)
        exapp.hang.set()

    async def test_a_dead_app_is_a_typed_error(self, nc: StandInNextcloud) -> None:
        nc.register_exapp(url="http://127.0.0.1:1", secret=SECRET)
        with pytest.raises(ExAppUnreachable):
            await nc.exapp_request("GET", "/api/v1/languages")
        assert SECRET not in repr(nc.exapp)
