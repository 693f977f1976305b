from __future__ import annotations

import importlib
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import anyio
import msgpack
import numpy as np
import numpy.typing as npt
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from kyutai_stream.backend import (
    Connection,
    ConnectionEvent,
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
    AuthError,
    BackendUnavailable,
    CapacityError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
    ProtocolError,
)
from kyutai_stream.testing import check_backend
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

Handler = Callable[[ServerConnection], Awaitable[None]]
Serve = Callable[..., Awaitable[str]]
FRAME = np.full(1920, 0.25, dtype=np.float32)
SILENCE = np.zeros(1920, dtype=np.float32)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
async def raw_port() -> AsyncIterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def say(connection: ServerConnection, kind: str, **fields: object) -> None:
    await connection.send(msgpack.packb({"type": kind, **fields}))


async def small_server(connection: ServerConnection) -> None:
    """A step for each frame; a word for the first loud frame after silence."""
    await say(connection, "Ready")
    steps, loud = 0, False
    try:
        async for data in connection:
            message = msgpack.unpackb(data)
            if message["type"] == "Init":
                steps, loud = 0, False
                await say(connection, "Ready")
            if message["type"] != "Audio" or not message["pcm"]:
                continue
            steps += 1
            await say(connection, "Step", step_idx=900 + steps, prs=[0, 0.5, 1, 1])
            was, loud = loud, max(message["pcm"]) > 0.1
            if loud and not was:
                at = 0.08 * (steps - 1)
                await say(connection, "Word", text="loud", start_time=at)
            if was and not loud:
                await say(connection, "EndWord", stop_time=0.08 * (steps - 1))
    except ConnectionClosed:
        pass


def refusing(status: int, **headers: str) -> Callable[..., Response]:
    def gate(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus(status), "no\n")
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response

    return gate


async def collect(connection: Connection, count: int) -> list[ConnectionEvent]:
    events = []
    async for event in connection:
        events.append(event)
        if len(events) == count:
            break
    return events


async def attempt(backend: MoshiServerBackend) -> None:
    async with backend.connect(ConnectRequest()):
        raise AssertionError("it connected")


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


class TestLosing:
    @pytest.mark.parametrize("code", [1000, 1001, 1011, 1012])
    async def test_a_close_is_a_loss_after_what_came_before(
        self, scripted: Serve, code: int
    ) -> None:
        async def ending(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            await say(connection, "Word", text="secret", start_time=0)
            await connection.close(code, "secret")

        backend = MoshiServerBackend(url=await scripted(ending))
        async with backend.connect(ConnectRequest()) as connection:
            events = await collect(connection, 2)
            assert isinstance(events[1], Word)
            for _ in range(2):
                with pytest.raises(ConnectionLost, match=str(code)) as caught:
                    await collect(connection, 1)
                assert "secret" not in str(caught.value)
            with pytest.raises(ConnectionLost):
                await connection.send(FRAME)

    async def test_an_abrupt_end(self, scripted: Serve) -> None:
        async def crashing(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            await connection.recv()
            connection.transport.abort()

        backend = MoshiServerBackend(url=await scripted(crashing))
        async with backend.connect(ConnectRequest()) as connection:
            await connection.send(FRAME)
            with pytest.raises(ConnectionLost, match="1006"):
                await collect(connection, 2)

    async def test_garbage(self, scripted: Serve) -> None:
        async def babbling(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            await connection.send(b"\xc1secret")

        backend = MoshiServerBackend(url=await scripted(babbling))
        async with backend.connect(ConnectRequest()) as connection:
            with pytest.raises(ProtocolError):
                await collect(connection, 2)

    async def test_a_message_beyond_all_measure(self, scripted: Serve) -> None:
        async def shouting(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            await connection.send(bytes(2 << 20))

        backend = MoshiServerBackend(url=await scripted(shouting))
        async with backend.connect(ConnectRequest()) as connection:
            with pytest.raises(ProtocolError, match="1009"):
                await collect(connection, 2)

    async def test_half_open_is_noticed(self, scripted: Serve) -> None:
        backend = MoshiServerBackend(url=await scripted(deaf_server))
        async with backend.connect(ConnectRequest()) as connection:
            began = anyio.current_time()
            with pytest.raises(ConnectionLost, match="ping"):
                await collect(connection, 2)
            assert anyio.current_time() - began < 30

    async def test_a_flush_that_nobody_answers(self, scripted: Serve) -> None:
        async def stalled(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            async for _ in connection:
                pass

        backend = MoshiServerBackend(url=await scripted(stalled))
        async with (
            backend.connect(ConnectRequest()) as connection,
            anyio.create_task_group() as tasks,
        ):

            async def flush() -> None:
                # The reader already waits, without a deadline.
                await anyio.sleep(5)
                await connection.send(FRAME)
                await connection.request_flush(1)

            tasks.start_soon(flush)
            began = anyio.current_time()
            with pytest.raises(ConnectionLost, match="no step"):
                await collect(connection, 2)
            assert anyio.current_time() - began == pytest.approx(15, abs=1)


async def deaf_server(connection: ServerConnection) -> None:
    """Says that it is ready, then neither reads nor writes nor answers."""
    await say(connection, "Ready")
    connection.transport.pause_reading()
    await connection.wait_closed()


class TestLeaving:
    async def test_a_dead_peer_does_not_hold_it_up(self, scripted: Serve) -> None:
        backend = MoshiServerBackend(url=await scripted(deaf_server))
        async with backend.connect(ConnectRequest()) as connection:
            with anyio.move_on_after(5) as scope:
                while True:
                    await connection.send(FRAME)
            assert scope.cancelled_caught
            began = anyio.current_time()
        assert anyio.current_time() - began <= 2.5

    async def test_nor_when_cancelled(self, scripted: Serve) -> None:
        backend = MoshiServerBackend(url=await scripted(deaf_server))
        began = anyio.current_time()
        with anyio.move_on_after(1):
            async with backend.connect(ConnectRequest()) as connection:
                async for _ in connection:
                    pass
        assert anyio.current_time() - began <= 3.5

    async def test_a_reader_who_was_behind_leaves_politely(
        self, scripted: Serve
    ) -> None:
        codes: list[int | None] = []

        async def chatty(connection: ServerConnection) -> None:
            await say(connection, "Ready")
            for _ in range(500):
                await say(connection, "Word", text="x" * 2000, start_time=0)
            await connection.wait_closed()
            codes.append(connection.close_code)

        backend = MoshiServerBackend(url=await scripted(chatty))
        async with backend.connect(ConnectRequest()):
            await anyio.sleep(1)
            began = anyio.current_time()
        assert anyio.current_time() - began < 1
        await anyio.sleep(0.1)
        assert codes == [1000]

    async def test_who_does_not_read_holds_the_server_up(self, scripted: Serve) -> None:
        said = 0

        async def chatty(connection: ServerConnection) -> None:
            nonlocal said
            await say(connection, "Ready")
            while said < 100_000:
                await say(connection, "Word", text="x" * 50_000, start_time=0)
                said += 1

        backend = MoshiServerBackend(url=await scripted(chatty))
        async with backend.connect(ConnectRequest()) as connection:
            await anyio.sleep(5)
            before = said
            await anyio.sleep(5)
            assert said == before < 1_000
            await collect(connection, before)
            await anyio.sleep(1)
            assert said > before


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
