"""An ExApp's requests to the stand-in."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from spreed_signaling.testing.nextcloud import StandInNextcloud

from .requests_to import APP_SECRET, lifecycle, missing


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
