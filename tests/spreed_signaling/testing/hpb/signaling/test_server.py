"""The server as a whole: trouble with Nextcloud, HTTP, and its hooks for tests."""

from __future__ import annotations

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from spreed_signaling.testing._serve import AppServer
from spreed_signaling.testing.hpb import EmbeddedHpb, HpbOptions
from spreed_signaling.testing.nextcloud import StandInNextcloud

from ..raw_client import Frame, RawClient, raw_client


class TestBackendTroubles:
    @pytest.mark.parametrize("reply", ["html", "throttled", "odd", "wrong type"])
    async def test_unusable_answers(self, reply: str) -> None:
        """Nextcloud answers, but not as it should."""
        answers: dict[str, Response] = {
            "html": HTMLResponse("<p>maintenance</p>"),
            "throttled": JSONResponse(
                {
                    "ocs": {
                        "meta": {"statuscode": 429},
                        "data": {"type": "auth", "auth": {}},
                    }
                }
            ),
            "odd": JSONResponse({"ocs": []}),
            "wrong type": JSONResponse(
                {"ocs": {"meta": {}, "data": {"type": "ping", "ping": {}}}}
            ),
        }

        async def answer(request: Request) -> Response:
            return answers[reply]

        app = Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])
        async with (
            AppServer(app) as nextcloud,
            EmbeddedHpb(
                backend_url=nextcloud.url, backend_secret="s", internal_secret=""
            ) as hpb,
            raw_client(hpb) as client,
        ):
            auth: Frame = {"url": f"{nextcloud.url}/x", "params": {}}
            frame = await client.hello({"version": "1.0", "auth": auth})
            expected = "auth_failed" if reply == "wrong type" else "internal_error"
            assert frame["error"]["code"] == expected
            # Without an internal secret there are no internal clients.
            frame = await client.hello_internal(backend=nextcloud.url)
            assert frame["error"]["code"] == "invalid_client_type"

    async def test_nextcloud_is_down(self) -> None:
        async with (
            EmbeddedHpb(
                backend_url="http://127.0.0.1:9",
                backend_secret="s",
                internal_secret="the-internal-secret",
            ) as hpb,
            raw_client(hpb) as client,
        ):
            for version in ("1.0", "2.0"):
                auth: Frame = {"url": "http://127.0.0.1:9/x", "params": {"token": "t"}}
                frame = await client.hello({"version": version, "auth": auth})
                assert frame["error"]["code"] == "internal_error"
            auth = {"url": "http://elsewhere.example/x", "params": {}}
            frame = await client.hello({"version": "1.0", "auth": auth})
            assert frame["error"]["code"] == "invalid_backend"
            auth = {"type": "federation", "params": {}}
            frame = await client.hello({"version": "1.0", "auth": auth})
            assert frame["error"]["code"] == "invalid_client_type"


class TestHttp:
    async def test_welcome(self, hpb: EmbeddedHpb) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{hpb.url}/api/v1/welcome")
        assert answer.json() == {
            "nextcloud-spreed-signaling": "Welcome",
            "version": "2.0.2-embedded",
        }


class TestHooks:
    async def test_drop_connections(self, hpb: EmbeddedHpb, bot: RawClient) -> None:
        await hpb.drop_connections()
        assert await bot.close_code() == 1006
        (view,) = hpb.sessions
        assert (view.connected, view.internal) == (False, True)

    async def test_port_can_be_used_again(self, nextcloud: StandInNextcloud) -> None:
        port = 0
        resume_id = ""
        for _ in range(2):
            async with EmbeddedHpb(
                backend_url=nextcloud.url,
                backend_secret=nextcloud.backend_secret,
                internal_secret="the-internal-secret",
                port=port,
                options=HpbOptions(throttle_first_s=60.0),
            ) as hpb:
                port = int(hpb.url.rpartition(":")[2])
                async with raw_client(hpb) as client:
                    if resume_id:
                        # Known as one of ours, so that it is not throttled.
                        with anyio.fail_after(20):
                            frame = await client.hello(
                                {"version": "1.0", "resumeid": resume_id}
                            )
                        assert frame["error"]["code"] == "no_such_session"
                    await client.hello_internal(backend=nextcloud.url)
                    resume_id = client.resume_id
