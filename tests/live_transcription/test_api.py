# SPDX-License-Identifier: AGPL-3.0-or-later
"""Lifecycle, shapes and what is refused: cases C, H4 to H6, L, R of section 10.1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from live_transcription.supervisor import Supervisor

from .talk import ENVIRONMENT, SECRET, StartTalk, Talk

FIXTURES = Path(__file__).parents[1] / "fixtures"


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
