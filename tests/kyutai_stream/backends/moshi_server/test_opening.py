"""Opening a connection to moshi-server: refusals, dead models, several addresses."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http import HTTPStatus

import anyio
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from kyutai_stream.backend import (
    ConnectRequest,
    Ready,
)
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.errors import (
    AuthError,
    CapacityError,
    ConfigError,
    ConnectFailed,
    KyutaiStreamError,
    ProtocolError,
)

from ..talk import attempt, collect
from .servers import Serve, refusing, say, small_server


class TestOpening:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, ConfigError),
            (401, AuthError),
            (403, AuthError),
            (404, ConfigError),
            (408, ConnectFailed),
            (429, CapacityError),
            (500, ConnectFailed),
            (502, ConnectFailed),
            (503, CapacityError),
        ],
    )
    async def test_http_answers(
        self, scripted: Serve, status: int, error: type[KyutaiStreamError]
    ) -> None:
        url = await scripted(small_server, refusing(status))
        with pytest.raises(error, match=str(status)):
            await attempt(MoshiServerBackend(url=url, api_key="k1"))

    @pytest.mark.parametrize(
        ("given", "taken"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)]
    )
    async def test_retry_after(
        self, scripted: Serve, given: str, taken: float | None
    ) -> None:
        url = await scripted(small_server, refusing(503, Retry_After=given))
        with pytest.raises(CapacityError) as caught:
            await attempt(MoshiServerBackend(url=url))
        assert caught.value.retry_after_s == taken

    @pytest.mark.parametrize(
        ("status", "error"), [(303, CapacityError), (307, ConfigError)]
    )
    async def test_keys_follow_no_redirect(
        self, scripted: Serve, status: int, error: type[KyutaiStreamError]
    ) -> None:
        keys: list[str] = []

        def thief(connection: ServerConnection, request: Request) -> None:
            keys.append(request.headers["kyutai-api-key"])

        elsewhere = await scripted(small_server, thief)
        url = await scripted(small_server, refusing(status, Location=elsewhere))
        with pytest.raises(error):
            await attempt(MoshiServerBackend(url=url))
        assert keys == []

    async def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            free = server.getsockname()[1]
        with pytest.raises(ConnectFailed, match="cannot be reached"):
            await attempt(MoshiServerBackend(url=f"ws://127.0.0.1:{free}"))

    async def test_somebody_who_says_nothing(self, raw_port: int) -> None:
        began = anyio.current_time()
        backend = MoshiServerBackend(url=f"ws://127.0.0.1:{raw_port}")
        with pytest.raises(ConnectFailed, match="10 s"):
            await attempt(backend)
        assert anyio.current_time() - began == pytest.approx(10, abs=1)

    async def test_a_name_that_is_none(self) -> None:
        with pytest.raises(ConfigError):
            await attempt(MoshiServerBackend(url=f"ws://{'a' * 70}.example"))

    async def test_a_dead_model_loop(self, scripted: Serve) -> None:
        async def wedged(connection: ServerConnection) -> None:
            await say(connection, "Step", prs=[])
            await say(connection, "Bell")
            await connection.wait_closed()

        began = anyio.current_time()
        backend = MoshiServerBackend(url=await scripted(wedged), ready_timeout_s=3)
        with pytest.raises(ConnectFailed, match="not ready within 3 s"):
            await attempt(backend)
        assert anyio.current_time() - began < 6

    @pytest.mark.parametrize(
        ("message", "error"),
        [
            ("no free channels", CapacityError),
            ("boom", ConnectFailed),
            (None, CapacityError),
        ],
    )
    async def test_refused_after_the_upgrade(
        self, scripted: Serve, message: str | None, error: type[KyutaiStreamError]
    ) -> None:
        async def full(connection: ServerConnection) -> None:
            if message is not None:
                await say(connection, "Error", message=message)

        with pytest.raises(error):
            await attempt(MoshiServerBackend(url=await scripted(full)))

    async def test_a_gateway_instead(self, scripted: Serve) -> None:
        async def gateway(connection: ServerConnection) -> None:
            await connection.send('{"type":"ready"}')

        with pytest.raises(ProtocolError, match="modal"):
            await attempt(MoshiServerBackend(url=await scripted(gateway)))

    async def test_languages(self) -> None:
        backend = MoshiServerBackend(model="stt-2.6b-en")
        with pytest.raises(ConfigError, match="'fr'"):
            async with backend.connect(ConnectRequest(language="fr")):
                pass


class TestEndpoints:
    async def test_the_next_one_is_tried_and_remembered(self, scripted: Serve) -> None:
        tries: list[str] = []

        def noting(
            name: str, status: int | None = None
        ) -> Callable[..., Response | None]:
            def gate(connection: ServerConnection, request: Request) -> Response | None:
                tries.append(name)
                if status is None:
                    return None
                return connection.respond(HTTPStatus(status), "")

            return gate

        urls = [
            await scripted(small_server, noting("full", 503)),
            await scripted(small_server, noting("good")),
        ]
        backend = MoshiServerBackend(url=", ".join(urls))
        for _ in range(2):
            async with backend.connect(ConnectRequest()) as connection:
                assert isinstance((await collect(connection, 1))[0], Ready)
        assert tries == ["full", "good", "good"]

    async def test_a_full_one_says_more_than_a_missing_one(
        self, scripted: Serve
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            gone = f"ws://127.0.0.1:{server.getsockname()[1]}"
        full = await scripted(small_server, refusing(503, Retry_After="9"))
        with pytest.raises(CapacityError) as caught:
            await attempt(MoshiServerBackend(url=[gone, full]))
        assert caught.value.retry_after_s == 9

    async def test_a_wrong_key_is_not_tried_elsewhere(self, scripted: Serve) -> None:
        first = await scripted(small_server, refusing(401))
        second = await scripted(small_server)
        with pytest.raises(AuthError):
            await attempt(MoshiServerBackend(url=[first, second]))
