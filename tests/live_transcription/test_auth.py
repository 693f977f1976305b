# SPDX-License-Identifier: AGPL-3.0-or-later
"""Who may ask anything of the app: cases H of section 10.1 of the contract."""

from __future__ import annotations

import base64

import pytest

from .talk import SECRET, StartTalk, Talk

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
