# SPDX-License-Identifier: AGPL-3.0-or-later
"""What Talk asks for a room: cases T and S of section 10.1 of the contract."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import pytest

from spreed_signaling.testing._serve import bind_socket

from .talk import StartTalk, Talk


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
            for reader in ("nc1", "nc2"):
                answer = await talk.transcribe(reader=reader, langId=lang_id)
                assert answer.status_code == 200
            (room,) = (await talk.status())["rooms"]
            assert room["lang_id"] == "en"
        told = f"the room's language {lang_id!r} is not supported; using 'en'"
        assert caplog.messages.count(told) == 1

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

    async def test_a_refusal_is_told_once_for_each_reason(
        self, start: StartTalk, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with start(LT_MAX_ROOMS="1") as talk:
            await talk.transcribe("one")
            for room in ("two", "three"):
                assert (await talk.transcribe(room)).status_code == 503
            await talk.put("/enabled", enabled=0)
            for _ in range(2):
                assert (await talk.transcribe("two")).status_code == 503
        refused = [one for one in caplog.messages if "captions refused" in one]
        assert refused == [
            "captions refused: 1 rooms have captions already, and LT_MAX_ROOMS is 1"
        ]


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
