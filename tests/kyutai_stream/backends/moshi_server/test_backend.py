"""The backend fulfils the contract; its settings, and the places of a server."""

from __future__ import annotations

import importlib
import logging
import socket
import sys
from http import HTTPStatus

import numpy as np
import numpy.typing as npt
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from kyutai_stream.backend import (
    ConnectRequest,
    Flushed,
    Pause,
    Progress,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.backends.moshi_server import MoshiServerBackend, Slots
from kyutai_stream.errors import (
    BackendUnavailable,
    ConfigError,
    ConnectFailed,
)
from kyutai_stream.testing import check_backend

from ..talk import collect
from .servers import FRAME, SILENCE, Serve, small_server


class TestTheContract:
    async def test_conformance(
        self, scripted: Serve, burst: npt.NDArray[np.float32]
    ) -> None:
        await check_backend(
            MoshiServerBackend(url=await scripted(small_server)), speech=burst
        )

    async def test_a_short_conversation(self, scripted: Serve) -> None:
        backend = MoshiServerBackend(url=await scripted(small_server))
        async with backend.connect(ConnectRequest(language="fr")) as connection:
            await connection.keepalive()
            await connection.send(FRAME)
            await connection.send(SILENCE)
            await connection.request_flush(4)
            events = await collect(connection, 8)
            await connection.reset()
            events += await collect(connection, 1)
        horizons = (0.5, 1.0, 2.0, 3.0)
        pause = Pause(probabilities=(0, 0.5, 1, 1), horizons_s=horizons)
        assert events == [
            Ready(capabilities=backend.capabilities),
            Progress(frames_processed=1, lag_frames=1),
            pause,
            Word(index=0, text="loud", start=0.0),
            Progress(frames_processed=2, lag_frames=0),
            pause,
            WordEnd(index=0, end=0.08),
            Flushed(token=4),
            WasReset(),
        ]

    async def test_path_and_key(self, scripted: Serve) -> None:
        seen: list[Request] = []

        def gate(connection: ServerConnection, request: Request) -> None:
            seen.append(request)

        url = await scripted(small_server, gate)
        backend = MoshiServerBackend(url=url.replace("ws:", "http:"), api_key="k1")
        async with backend.connect(ConnectRequest()):
            pass
        (request,) = seen
        assert request.path == "/api/asr-streaming"
        assert request.headers["kyutai-api-key"] == "k1"
        assert "permessage-deflate" not in str(request.headers)


class TestSettings:
    def test_models(self) -> None:
        small = MoshiServerBackend().capabilities
        assert small.languages == ("en", "fr")
        assert small.nominal_delay_s == pytest.approx(0.48)
        assert small.acks and small.resettable and small.pause_horizons_s
        large = MoshiServerBackend(model="stt-2.6b-en").capabilities
        assert large.languages == ("en",)
        assert large.nominal_delay_s == pytest.approx(2.56)
        assert large.silence_prefix_s == 1.0
        assert not large.acks and not large.pause_horizons_s
        python = MoshiServerBackend(python_server=True).capabilities
        assert not python.acks and not python.pause_horizons_s
        assert MoshiServerBackend(languages=["fr"]).capabilities.languages == ("fr",)

    @pytest.mark.parametrize(
        "settings",
        [
            {"model": "whisper"},
            {"languages": ["en", "de"]},
            {"url": "ftp://host"},
            {"url": ""},
            {"url": []},
        ],
    )
    def test_wrong_ones(self, settings: dict[str, object]) -> None:
        with pytest.raises(ConfigError):
            MoshiServerBackend(**settings)  # type: ignore[arg-type]  # on purpose

    async def test_keys_and_speech_reach_no_log(
        self, scripted: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        url = await scripted(small_server)
        # The server of this test logs under a name of its own.
        logging.getLogger("websockets.server").setLevel(logging.INFO)
        backend = MoshiServerBackend(url=url, api_key="k-secret")
        async with backend.connect(ConnectRequest()) as connection:
            await connection.send(FRAME)
            await collect(connection, 4)
        assert "k-secret" not in caplog.text and "loud" not in caplog.text
        assert "k-secret" not in repr(backend) + repr(vars(backend))

    def test_a_missing_library_is_named_with_its_extra(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "msgpack", None)
        monkeypatch.delattr("kyutai_stream.wire.moshi")
        for name in list(sys.modules):
            if name == "kyutai_stream.wire.moshi" or "backends.moshi_server" in name:
                monkeypatch.delitem(sys.modules, name)
        with pytest.raises(BackendUnavailable, match=r"msgpack.*kyutai-stream\[ws\]"):
            importlib.import_module("kyutai_stream.backends.moshi_server")


class TestSlots:
    async def test_places_are_strings_in_a_list(self, scripted: Serve) -> None:
        def gate(connection: ServerConnection, request: Request) -> Response:
            assert request.path == "/api/modules_info"
            return connection.respond(
                HTTPStatus.OK,
                '[{"type":"py","path":"/api/tts","used_slots":"0","total_slots":"1"},'
                '{"type":"batched_asr","path":"/api/asr-streaming","used_slots":"3",'
                '"total_slots":"64"}]',
            )

        backend = MoshiServerBackend(url=await scripted(small_server, gate))
        assert await backend.slots() == {
            backend.endpoints[0]: Slots(used=3, total=64, kind="batched_asr")
        }

    @pytest.mark.parametrize("body", ["[]", "{", "null", '["a"]', "x" * 100_000])
    async def test_other_answers(self, scripted: Serve, body: str) -> None:
        def gate(connection: ServerConnection, request: Request) -> Response:
            return connection.respond(HTTPStatus.OK, body)

        backend = MoshiServerBackend(url=await scripted(small_server, gate))
        with pytest.raises(ConnectFailed):
            await backend.slots()

    async def test_no_answer(self, raw_port: int) -> None:
        backend = MoshiServerBackend(url=f"ws://127.0.0.1:{raw_port}")
        with pytest.raises(ConnectFailed, match="5 s"):
            await backend.slots()

    async def test_nobody(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(ConnectFailed, match="reached"):
            await MoshiServerBackend(url=f"ws://127.0.0.1:{port}").slots()
