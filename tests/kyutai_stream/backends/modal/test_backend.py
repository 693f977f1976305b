"""How the backend is set up, opens and loses a connection, on the fake gateway."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import ServerConnection

from kyutai_stream.backend import (
    ConnectRequest,
    Ready,
)
from kyutai_stream.backends.modal import ModalBackend, workspace_url
from kyutai_stream.errors import (
    AuthError,
    BackendUnavailable,
    CapacityError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
    ProtocolError,
)
from kyutai_stream.testing import FakeGateway
from kyutai_stream.testing.gateway import (
    Abort,
    At,
    Attempt,
    CloseWith,
    Fail,
    Garbage,
    HalfOpen,
    Incident,
    StopSteps,
    UnknownMessages,
)

from ..talk import SPEECH, ZEROS, Talk, attempt, frames, talked

Serve = Callable[..., Awaitable[str]]


class TestOpening:
    @pytest.mark.parametrize(
        ("plan", "error"),
        [
            (Attempt(status=401), AuthError),
            (Attempt(status=403), AuthError),
            (Attempt(status=404), ConfigError),
            (Attempt(status=429, headers={"Retry-After": "5"}), CapacityError),
            (Attempt(status=503, headers={"Retry-After": "5"}), CapacityError),
            (
                Attempt(status=303, headers={"Location": "https://a.example/?__modal"}),
                CapacityError,
            ),
            (Attempt(full=True), CapacityError),
            (Attempt(close_first=1000), CapacityError),
            (Attempt(close_first=1011), ConnectFailed),
            (Attempt(close_first=1013), CapacityError),
            (Attempt(close_first=4503), CapacityError),
            (Attempt(handshake_s=130.0), ConnectFailed),
        ],
    )
    async def test_refusals(
        self, plan: Attempt, error: type[KyutaiStreamError]
    ) -> None:
        async with FakeGateway(attempts=[plan]) as gateway:
            backend = ModalBackend(url=gateway.url)
            with pytest.raises(error) as caught:
                await attempt(backend)
            if (
                isinstance(caught.value, CapacityError)
                and "Retry-After" in plan.headers
            ):
                assert caught.value.retry_after_s == 5
            async with backend.connect(ConnectRequest()):
                pass

    async def test_keys(self) -> None:
        async with FakeGateway(key="wk-1", secret="ws-1") as gateway:
            url = gateway.url.replace("ws:", "http:").removesuffix("/v1/stream")
            with pytest.raises(AuthError):
                await attempt(ModalBackend(url=url))
            with pytest.raises(AuthError):
                await attempt(ModalBackend(url=url, key="wk-1", secret="ws-2"))
            for keys in (
                {"key": "wk-1", "secret": "ws-1"},
                {"api_key": "wk-1.ws-1"},
            ):
                async with ModalBackend(url=url, **keys).connect(ConnectRequest()):  # type: ignore[arg-type]  # as listed
                    pass

    async def test_a_cold_start_on_the_function_edge(self) -> None:
        async with FakeGateway(cold_start_s=60.0) as gateway:
            began = anyio.current_time()
            async with ModalBackend(url=gateway.url).connect(ConnectRequest()):
                assert 60 <= anyio.current_time() - began < 62

    async def test_a_cold_start_on_the_server_edge(self) -> None:
        async with FakeGateway(cold_start_s=60.0, edge="server") as gateway:
            with pytest.raises(CapacityError, match="starting"):
                await attempt(ModalBackend(url=gateway.url))

    async def test_the_next_address_when_one_is_full(self) -> None:
        async with (
            FakeGateway(attempts=[Attempt(full=True)]) as first,
            FakeGateway() as second,
        ):
            backend = ModalBackend(url=[first.url, second.url])
            async with backend.connect(ConnectRequest()):
                assert (first.used, second.used) == (0, 1)
            assert backend.endpoints == (first.url, second.url)

    async def test_a_moshi_server_instead(self, scripted: Serve) -> None:
        async def moshi(connection: ServerConnection) -> None:
            await connection.send(b"\x81\xa4type\xa5Ready")

        with pytest.raises(ProtocolError, match="moshi-server"):
            await attempt(ModalBackend(url=await scripted(moshi)))

    async def test_languages(self, scripted: Serve) -> None:
        async def english(connection: ServerConnection) -> None:
            await connection.send('{"type":"ready","languages":["en","xx"]}')
            await connection.wait_closed()

        backend = ModalBackend(url=await scripted(english))
        for language in ("de", "fr"):
            with pytest.raises(ConfigError, match=language):
                async with backend.connect(ConnectRequest(language=language)):
                    pass
        async with backend.connect(ConnectRequest(language="en")) as connection:
            async for event in connection:
                assert isinstance(event, Ready)
                assert event.capabilities.languages == ("en",)
                break


class TestLosing:
    @pytest.mark.parametrize(
        ("incident", "error", "within_s"),
        [
            (Abort(), ConnectionLost, 1.0),
            (CloseWith(code=1012), ConnectionLost, 1.0),
            (CloseWith(code=1013), CapacityError, 1.0),
            (Fail(code="upstream_lost"), ConnectionLost, 1.0),
            (Fail(code="idle_timeout"), ConnectionLost, 1.0),
            (Garbage(), ProtocolError, 1.0),
            (HalfOpen(), ConnectionLost, 45.0),
        ],
    )
    async def test_in_mid_stream(
        self, incident: Incident, error: type[KyutaiStreamError], within_s: float
    ) -> None:
        plan = Attempt(incidents=(At(incident=incident, frame=20),))
        async with FakeGateway(speed=3.0, attempts=[plan]) as gateway:

            async def conversation(talk: Talk) -> None:
                for frame in frames(SPEECH.samples)[:20]:
                    await talk.connection.send(frame)
                began = anyio.current_time()
                assert isinstance(await talk.lost(), error)
                assert anyio.current_time() - began <= within_s

            began = anyio.current_time()
            await talked(ModalBackend(url=gateway.url), conversation)
            assert anyio.current_time() - began <= within_s + 4

    async def test_a_model_that_stands_still(self) -> None:
        async with FakeGateway(speed=3.0) as gateway:

            async def conversation(talk: Talk) -> None:
                gateway.happen(StopSteps())
                await talk.connection.send(ZEROS)
                await talk.connection.request_flush(1)
                assert isinstance(await talk.lost(), ConnectionLost)

            await talked(ModalBackend(url=gateway.url), conversation)


class TestSettings:
    def test_the_address_of_a_workspace(self) -> None:
        (url,) = ModalBackend(workspace="Acme").endpoints
        assert url == (
            "wss://acme--kyutai-stt-rust-kyutaisttrustservice-serve.modal.run/v1/stream"
        )
        with_environment = workspace_url("acme", "dev")
        assert with_environment.startswith("wss://acme-dev--kyutai")
        longest = workspace_url("a" * 19)
        assert len(longest.removeprefix("wss://").partition(".")[0]) == 63
        (own,) = ModalBackend(workspace="acme", url="wss://host").endpoints
        assert own == "wss://host/v1/stream"

    @pytest.mark.parametrize(
        ("wrong", "hint"),
        [
            ({}, "url or a workspace"),
            ({"workspace": "a" * 20}, "full url"),
            ({"workspace": "a" * 16, "environment": "dev"}, "full url"),
            ({"workspace": "https://acme"}, "workspace"),
            ({"workspace": "acme--x"}, "workspace"),
            ({"workspace": "-"}, "workspace"),
            ({"url": "host"}, "address"),
            ({"url": "wss://h", "key": "wk-1"}, "two parts"),
            ({"url": "wss://h", "secret": "ws-1"}, "two parts"),
            ({"url": "wss://h", "key": "ak-1", "secret": "as-1"}, "proxy"),
            ({"url": "wss://h", "key": "wk-1\r\nX: y", "secret": "ws-1"}, "Modal-Key"),
            ({"url": "wss://h", "dialect": "gen9"}, "gen9"),
        ],
    )
    def test_wrong_ones(self, wrong: dict[str, Any], hint: str) -> None:
        with pytest.raises(ConfigError, match=hint) as caught:
            ModalBackend(**wrong)
        assert "ws-1" not in str(caught.value)

    async def test_keys_and_speech_reach_no_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        # The server of this test logs under a name of its own.
        logging.getLogger("websockets.server").setLevel(logging.INFO)
        async with FakeGateway(key="wk-hush", secret="ws-hush", speed=3.0) as gateway:
            backend = ModalBackend(url=gateway.url, key="wk-hush", secret="ws-hush")

            async def conversation(talk: Talk) -> None:
                gateway.happen(UnknownMessages())
                await talk.say(1)

            await talked(backend, conversation)
        assert "hologram" in caplog.text
        assert "hush" not in caplog.text + repr(vars(backend))
        assert "alpha" not in caplog.text

    def test_a_missing_library_is_named_with_its_extra(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in list(sys.modules):
            if name.startswith("kyutai_stream.backends."):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr("kyutai_stream.backends._websocket")
        monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
        with pytest.raises(
            BackendUnavailable, match=r"websockets.*kyutai-stream\[ws\]"
        ):
            importlib.import_module("kyutai_stream.backends.modal")
