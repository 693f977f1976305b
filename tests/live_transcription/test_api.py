# SPDX-License-Identifier: AGPL-3.0-or-later
"""Cases of section 10.1 of the contract: H, L, C, T, S, R, V."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from live_transcription.supervisor import Supervisor
from spreed_signaling.testing._serve import bind_socket

from .conftest import ENVIRONMENT, SECRET, StartTalk, Talk

FIXTURES = Path(__file__).parents[1] / "fixtures"

Headers = dict[str, str]


def without(name: str) -> Headers:
    headers = Talk.headers()
    del headers[name]
    return headers


class TestAuthentication:
    async def test_h1_heartbeat_is_open(self, start: StartTalk) -> None:
        async with start() as talk:
            for headers in ({}, Talk.headers(), Talk.headers("wrong")):
                answer = await talk.client.get("/heartbeat", headers=headers)
                assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            Talk.headers("wrong"),
            Talk.headers(""),
            Talk.headers(app_id="other_app"),
            Talk.headers() | {"AUTHORIZATION-APP-API": "%%% no base64"},
            Talk.headers() | {"AUTHORIZATION-APP-API": ""},
            Talk.headers()
            | {"AUTHORIZATION-APP-API": base64.b64encode(SECRET.encode()).decode()},
            Talk.headers()
            | {
                "AUTHORIZATION-APP-API": base64.b64encode(
                    b"\xff:" + SECRET.encode()
                ).decode()
            },
            without("EX-APP-VERSION"),
            without("EX-APP-ID"),
            without("AUTHORIZATION-APP-API"),
        ],
    )
    async def test_h2_others_are_refused_and_the_secret_stays_secret(
        self,
        start: StartTalk,
        headers: Headers,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("DEBUG")
        async with start() as talk:
            answer = await talk.client.get("/api/v1/languages", headers=headers)
        assert answer.status_code == 401
        assert isinstance(answer.json()["error"], str)
        seen = (
            answer.text
            + str(answer.headers)
            + caplog.text
            + "".join(capfd.readouterr())
        )
        assert SECRET not in seen

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PUT", "/enabled?enabled=1"),
            ("GET", "/enabled"),
            ("GET", "/capabilities"),
            ("POST", "/init"),
            ("GET", "/docs"),
            ("GET", "/openapi.json"),
            ("GET", "/heartbeat/"),
            ("GET", "/no/such/path"),
            ("GET", "/api/v1/status"),
        ],
    )
    async def test_h3_nothing_else_is_open(
        self, start: StartTalk, method: str, path: str
    ) -> None:
        async with start() as talk:
            # A Host header that names an open path changes nothing.
            for headers in ({}, {"Host": "app/heartbeat?"}):
                answer = await talk.client.request(method, path, headers=headers)
                assert answer.status_code == 401
                assert "error" in answer.json()

    @pytest.mark.parametrize(
        "headers",
        [
            without("AA-VERSION"),
            Talk.headers(version="0.0.1"),
            Talk.headers(user_id=""),
            Talk.headers(user_id="alice"),
        ],
    )
    async def test_h8_what_may_differ(self, start: StartTalk, headers: Headers) -> None:
        async with start() as talk:
            answer = await talk.client.get("/api/v1/languages", headers=headers)
            assert answer.status_code == 200


class TestLifecycle:
    async def test_h4_enabled(self, start: StartTalk) -> None:
        async with start() as talk:
            for flag in (True, False, True):
                answer = await talk.put("/enabled", enabled=int(flag))
                assert (answer.status_code, answer.json()) == (200, {"error": ""})
                assert (await talk.get("/enabled")).json() == {"enabled": flag}

    async def test_h4_disabling_leaves_all_rooms(self, start: StartTalk) -> None:
        async with start() as talk:
            for room in ("one", "two"):
                assert (await talk.transcribe(room)).status_code == 200
            assert len((await talk.status())["rooms"]) == 2
            await talk.put("/enabled", enabled=0)
            assert (await talk.status())["rooms"] == []
            refused = await talk.transcribe("one")
            assert refused.status_code == 503
            assert "disabled" in refused.json()["error"]
            await talk.put("/enabled", enabled=1)
            assert (await talk.transcribe("one")).status_code == 200

    async def test_unknown_counts_as_on(self, start: StartTalk) -> None:
        async with start() as talk:
            assert (await talk.status())["enabled"] is None
            assert (await talk.get("/enabled")).json() == {"enabled": True}
            assert (await talk.transcribe()).status_code == 200
            assert (await talk.status())["enabled"] is True

    async def test_h5_init_answers_at_once(self, start: StartTalk) -> None:
        async with start() as talk:
            with anyio.fail_after(1):
                answer = await talk.post("/init", None)
            assert (answer.status_code, answer.json()) == (200, {})

    async def test_h6_a_failing_handler_says_so(
        self, start: StartTalk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(self: Supervisor, limit_s: float = 0) -> None:
            raise RuntimeError("out of order")

        async with start() as talk:
            with monkeypatch.context() as patch:
                patch.setattr(Supervisor, "close", fail)
                answer = await talk.put("/enabled", enabled=0)
            assert answer.status_code == 200
            assert answer.json()["error"]


class TestShapes:
    async def test_l1_languages(self, start: StartTalk) -> None:
        async with start() as talk:
            languages = (await talk.get("/api/v1/languages")).json()
        assert languages["en"] == {
            "name": "English",
            "metadata": {"separator": " ", "rtl": False},
        }
        assert languages.keys() == {"en", "fr"}

    async def test_c1_capabilities_with_nextcloud_away(self, start: StartTalk) -> None:
        async with start() as talk:
            with anyio.fail_after(1):
                answer = await talk.get("/capabilities")
            ours = answer.json()["live_transcription"]
            languages = (await talk.get("/api/v1/languages")).json()
        assert ours["version"] == "3.0.0"
        assert ours["features"] == ["live_transcription"]
        assert ours["live_transcription"] == {"supported_languages": languages}
        assert "live_translation" not in ours

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/nowhere", 404),
            ("GET", "/docs", 404),
            ("DELETE", "/api/v1/languages", 405),
            ("POST", "/heartbeat", 405),
            ("PUT", "/enabled", 400),
            ("PUT", "/enabled?enabled=maybe", 400),
        ],
    )
    async def test_every_failure_is_json(
        self, start: StartTalk, method: str, path: str, status: int
    ) -> None:
        async with start() as talk:
            answer = await talk.client.request(method, path, headers=Talk.headers())
        assert answer.status_code == status
        assert isinstance(answer.json()["error"], str) and answer.json()["error"]

    async def test_a_bug_is_a_json_500(
        self, start: StartTalk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: Supervisor) -> dict[str, Any]:
            raise RuntimeError(SECRET)

        async with start() as talk:
            monkeypatch.setattr(Supervisor, "status", fail)
            answer = await talk.get("/api/v1/status")
        assert answer.status_code == 500
        assert answer.json()["error"]
        assert SECRET not in answer.text


class TestTranscribe:
    async def test_t1_answers_at_once_with_everything_away(
        self, start: StartTalk
    ) -> None:
        async with start() as talk:
            with anyio.fail_after(1):
                answer = await talk.transcribe()
            assert answer.status_code == 200
            assert isinstance(answer.json(), dict)

    async def test_t1_answers_at_once_and_ends_with_a_silent_server(
        self, start: StartTalk
    ) -> None:
        with bind_socket() as silent:
            # Takes connections and never answers.
            silent.listen()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with anyio.fail_after(6):
                async with start(LT_HPB_URL=url, NEXTCLOUD_URL=url) as talk:
                    await talk.put("/enabled", enabled=1)
                    with anyio.fail_after(1):
                        for number in range(20):
                            answer = await talk.transcribe(
                                f"room{number % 5}", f"nc{number}"
                            )
                            assert answer.status_code == 200
                        assert len((await talk.status())["rooms"]) == 5

    async def test_t2_language(self, start: StartTalk) -> None:
        async with start() as talk:
            assert (await talk.transcribe(langId="fr")).status_code == 200
            (room,) = (await talk.status())["rooms"]
            assert (room["room_token"], room["lang_id"]) == ("abcd1234", "fr")

    async def test_default_language(self, start: StartTalk) -> None:
        async with start(LT_DEFAULT_LANGUAGE="fr") as talk:
            await talk.transcribe()
            (room,) = (await talk.status())["rooms"]
            assert room["lang_id"] == "fr"

    async def test_t3_off_in_an_unknown_room(self, start: StartTalk) -> None:
        async with start() as talk:
            answer = await talk.transcribe(enable=False)
            assert answer.status_code == 200
            assert isinstance(answer.json(), dict)
            assert (await talk.status())["rooms"] == []

    async def test_t4_twice_is_once(self, start: StartTalk) -> None:
        async with start() as talk:
            for _ in range(2):
                assert (await talk.transcribe()).status_code == 200
            (room,) = (await talk.status())["rooms"]
            assert room["readers"] == {"receiving": 0, "waiting": 1}

    async def test_t5_one_of_two_switches_off(self, start: StartTalk) -> None:
        async with start() as talk:
            await talk.transcribe(reader="nc1")
            await talk.transcribe(reader="nc2")
            await talk.transcribe(reader="nc1", enable=False)
            (room,) = (await talk.status())["rooms"]
            assert room["readers"] == {"receiving": 0, "waiting": 1}

    @pytest.mark.parametrize(
        "body",
        [
            {"ncSessionId": "nc1", "enable": True},
            {"roomToken": "abcd1234", "enable": True},
            {"roomToken": None, "ncSessionId": "nc1", "enable": True},
            {"roomToken": "abcd1234", "ncSessionId": None, "enable": True},
            {"roomToken": "", "ncSessionId": "nc1", "enable": True},
            {"roomToken": "abcd1234", "ncSessionId": "nc1", "enable": "perhaps"},
            {"roomToken": "abcd1234", "ncSessionId": "nc1", "langId": 7},
            [],
            None,
        ],
    )
    async def test_t6_wrong_bodies(self, start: StartTalk, body: Any) -> None:
        async with start() as talk:
            answer = await talk.post("/api/v1/call/transcribe", body)
        assert 400 <= answer.status_code < 500
        assert isinstance(answer.json()["error"], str)
        assert "abcd1234" not in answer.text

    async def test_t6_no_json(self, start: StartTalk) -> None:
        async with start() as talk:
            for content_type in ("application/json", "text/plain"):
                headers = Talk.headers() | {"Content-Type": content_type}
                answer = await talk.client.post(
                    "/api/v1/call/transcribe", content=b"{no json", headers=headers
                )
                assert 400 <= answer.status_code < 500
                assert isinstance(answer.json()["error"], str)

    @pytest.mark.parametrize("lang_id", ["de", "", "de_DE"])
    async def test_t7_a_stored_foreign_language(
        self, start: StartTalk, lang_id: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with start() as talk:
            answer = await talk.transcribe(langId=lang_id)
            assert answer.status_code == 200
            (room,) = (await talk.status())["rooms"]
            assert room["lang_id"] == "en"
        assert "not supported" in caplog.text

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"LT_HPB_URL": ""}, "LT_HPB_URL"),
            ({"LT_HPB_URL": "hpb without scheme"}, "LT_HPB_URL"),
            ({"LT_INTERNAL_SECRET": ""}, "LT_INTERNAL_SECRET"),
            ({"LT_STT_BACKEND": "moshi-server"}, "LT_STT_URL"),
            ({"LT_STT_BACKEND": "modal"}, "MODAL_WORKSPACE"),
            ({"LT_STT_BACKEND": "nonsense"}, "LT_STT_BACKEND"),
            ({"LT_STT_BACKEND": "nonsense"}, "nonsense"),
        ],
    )
    async def test_t8_not_configured(
        self, start: StartTalk, changes: dict[str, str], named: str
    ) -> None:
        async with start(**changes) as talk:
            with anyio.fail_after(1):
                answer = await talk.transcribe()
            assert answer.status_code == 503
            assert named in answer.json()["error"]
            status = await talk.status()
            assert named in json.dumps([status["problems"], status["backend"]])
            assert (await talk.transcribe(enable=False)).status_code == 200

    async def test_t9_many_at_once_while_one_server_hangs(
        self, start: StartTalk
    ) -> None:
        async with start() as talk:
            answers: list[httpx.Response] = []

            async def press(number: int) -> None:
                room = f"room{number % 5}"
                answers.append(await talk.transcribe(room, f"nc{number}"))

            with anyio.fail_after(1):
                async with anyio.create_task_group() as tasks:
                    for number in range(20):
                        tasks.start_soon(press, number)
            assert [answer.status_code for answer in answers] == [200] * 20
            rooms = (await talk.status())["rooms"]
            assert sorted(room["readers"]["waiting"] for room in rooms) == [4] * 5

    async def test_no_more_rooms_than_allowed(self, start: StartTalk) -> None:
        async with start(LT_MAX_ROOMS="2") as talk:
            for room in ("one", "two", "one"):
                assert (await talk.transcribe(room)).status_code == 200
            refused = await talk.transcribe("three")
            assert refused.status_code == 503
            assert "LT_MAX_ROOMS" in refused.json()["error"]
            await talk.post("/api/v1/call/leave", {"roomToken": "one"})
            assert (await talk.transcribe("three")).status_code == 200


class TestLanguageOfARoom:
    @pytest.mark.parametrize("lang_id", ["xx", "", "de"])
    async def test_s3_unknown_language_before_the_room(
        self, start: StartTalk, lang_id: str
    ) -> None:
        async with start() as talk:
            body = {"roomToken": "nowhere", "langId": lang_id}
            answer = await talk.post("/api/v1/call/set-language", body)
            assert answer.status_code == 400
            assert answer.json()["error"]

    async def test_s1_unknown_room(self, start: StartTalk) -> None:
        async with start() as talk:
            body = {"roomToken": "nowhere", "langId": "fr"}
            answer = await talk.post("/api/v1/call/set-language", body)
            assert answer.status_code == 404
            assert answer.json()["error"]

    async def test_s2_running_room(self, start: StartTalk) -> None:
        async with start() as talk:
            await talk.transcribe()
            body = {"roomToken": "abcd1234", "langId": "fr"}
            answer = await talk.post("/api/v1/call/set-language", body)
            assert answer.status_code == 200
            assert isinstance(answer.json(), dict)
            (room,) = (await talk.status())["rooms"]
            assert room["lang_id"] == "fr"


class TestTranslation:
    TARGET = "/api/v1/translation/set-target-language"

    async def test_r1_not_supported(self, start: StartTalk) -> None:
        async with start() as talk:
            body = {"roomToken": "r", "ncSessionId": "nc1", "langId": "de"}
            answer = await talk.post(self.TARGET, body)
            assert answer.status_code == 550
            assert answer.json()["error"]
            path = "/api/v1/translation/languages"
            answer = await talk.get(path, roomToken="r")
            assert answer.status_code == 550
            assert answer.json()["error"]

    async def test_r2_back_to_the_original(self, start: StartTalk) -> None:
        async with start() as talk:
            body = {"roomToken": "r", "ncSessionId": "nc1", "langId": None}
            answer = await talk.post(self.TARGET, body)
            assert answer.status_code == 200
            assert isinstance(answer.json(), dict)


class TestLeave:
    async def test_v1(self, start: StartTalk) -> None:
        async with start() as talk:
            await talk.transcribe("one")
            await talk.transcribe("two")
            for room in ("one", "one", "nowhere"):
                answer = await talk.post("/api/v1/call/leave", {"roomToken": room})
                assert answer.status_code == 200
            (left,) = (await talk.status())["rooms"]
            assert left["room_token"] == "two"


async def test_status_tells_what_is_wrong(start: StartTalk) -> None:
    async with start() as talk:
        await talk.transcribe()
        with anyio.fail_after(5):
            while True:
                status = await talk.status()
                (room,) = status["rooms"]
                if room["detail"]:
                    break
                await anyio.sleep(0.05)
        assert room["state"] == "connecting"
        assert "cannot reach the signaling server" in room["detail"]
        assert "next attempt in" in room["detail"]
        assert status["backend"]["name"] == "activity"
        assert "LT_STT_BACKEND" in status["backend"]["hint"]
        text = json.dumps(status)
        assert not [
            name
            for name in ("APP_SECRET", "LT_INTERNAL_SECRET")
            if ENVIRONMENT[name] in text
        ]


def recorded(scenario: str) -> list[dict[str, Any]]:
    lines = (FIXTURES / "appapi-lifecycle.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [
        line
        for line in found
        if line["direction"] == "nextcloud->exapp" and line["scenario"] == scenario
    ]


@pytest.mark.parametrize("scenario", ["register", "disable", "calls", "auth"])
async def test_recorded_requests_are_answered_as_recorded(
    start: StartTalk, scenario: str
) -> None:
    lines = recorded(scenario)
    assert lines
    async with start(APP_SECRET="fake-app-secret-0001", APP_VERSION="1.0.0") as talk:
        for line in lines:
            headers = {
                name: value
                for name, value in line["headers"].items()
                if name not in ("host", "content-length")
            }
            with anyio.fail_after(3):
                answer = await talk.client.request(
                    line["method"],
                    line["path"],
                    params=line["query"],
                    headers=headers,
                    content=line["body"].encode(),
                )
            assert answer.status_code == line["status"], line["seq"]
            if line["status"] == 401:
                assert answer.json()["error"]
            elif line["path"] == "/api/v1/languages":
                assert answer.json().keys() == json.loads(line["response"]).keys()
            elif line["path"] != "/api/v1/call/transcribe":
                assert answer.json() == json.loads(line["response"])
