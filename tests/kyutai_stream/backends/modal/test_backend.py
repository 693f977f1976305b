"""The backend on the fake gateway, in every dialect, in virtual time."""

from __future__ import annotations

import importlib
import logging
import math
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt
import pytest
from websockets.asyncio.server import ServerConnection

from kyutai_stream.backend import (
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Draining,
    Flushed,
    Pause,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.backends.modal import ModalBackend, workspace_url
from kyutai_stream.core import Framer
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
from kyutai_stream.testing import FakeGateway, VirtualTimeLoop, check_backend, speak
from kyutai_stream.testing.gateway import (
    Abort,
    At,
    Attempt,
    CloseWith,
    Drain,
    Fail,
    Garbage,
    HalfOpen,
    Incident,
    StaleEpoch,
    StopSteps,
    UnknownMessages,
)
from kyutai_stream.testing.moshi_server import STT_2_6B

Serve = Callable[..., Awaitable[str]]
TEXT = "alpha bravo charlie delta echo foxtrot golf"
SPEECH = speak(TEXT)
ZEROS = np.zeros(1920, dtype=np.float32)
OLDER = ("gen1", "gen2", "gen3", "document")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def frames(samples: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    framer = Framer()
    whole = framer.push(samples)
    return whole + framer.push(np.zeros(framer.padding, dtype=np.float32))


class Talk:
    """Sends and reads at the same time, as the session does."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.events: list[ConnectionEvent] = []
        self.failure: KyutaiStreamError | None = None
        self._news = anyio.Event()

    async def read(self) -> None:
        try:
            async for event in self.connection:
                self.events.append(event)
                self._notify()
        except KyutaiStreamError as exc:
            self.failure = exc
        self._notify()

    async def say(self, token: int) -> None:
        await self.until(lambda: bool(self.events))
        ready = self.events[0]
        assert isinstance(ready, Ready)
        silence = math.ceil(ready.capabilities.nominal_delay_s / 0.08) + 3
        if ready.capabilities.self_flushing:
            silence = 0
        for frame in frames(SPEECH.samples) + [ZEROS] * silence:
            await self.connection.send(frame)
            await anyio.sleep(0.02)
        await self.connection.request_flush(token)
        await self.until(lambda: Flushed(token=token) in self.events)

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(120):
            while not condition():
                await self._news.wait()

    async def lost(self) -> KyutaiStreamError:
        await self.until(lambda: self.failure is not None)
        assert self.failure is not None
        return self.failure

    def words(self) -> list[Word]:
        return [event for event in self.events if isinstance(event, Word)]

    def _notify(self) -> None:
        self._news.set()
        self._news = anyio.Event()


async def talked(
    backend: ModalBackend, then: Callable[[Talk], Awaitable[None]]
) -> Talk:
    """Open a connection, do something on it, leave."""
    async with (
        backend.connect(ConnectRequest(language="en")) as connection,
        anyio.create_task_group() as tasks,
    ):
        talk = Talk(connection)
        tasks.start_soon(talk.read)
        await then(talk)
        tasks.cancel_scope.cancel()
    return talk


async def attempt(backend: ModalBackend) -> None:
    async with backend.connect(ConnectRequest()):
        raise AssertionError("it connected")


def settings(dialect: str, explicit: bool) -> dict[str, Any]:
    return {"dialect": dialect} if explicit or dialect == "gen1" else {}


EVERY = pytest.mark.parametrize(
    ("dialect", "explicit"),
    [(one, True) for one in ("protocol1", *OLDER)]
    + [(one, False) for one in ("protocol1", *OLDER[1:])],
)


class TestDialects:
    @pytest.mark.parametrize(
        ("dialect", "explicit"),
        # The suite expects what the backend hopes for, not what `Ready` says.
        [(one, True) for one in ("protocol1", *OLDER)] + [("protocol1", False)],
    )
    async def test_conformance(self, dialect: Any, explicit: bool) -> None:
        async with FakeGateway(dialect, speed=3.0) as gateway:
            backend = ModalBackend(url=gateway.url, **settings(dialect, explicit))
            await check_backend(backend, speech=SPEECH.samples)
            assert gateway.used == 0

    @EVERY
    async def test_words_come_once_and_before_the_flush(
        self, dialect: Any, explicit: bool
    ) -> None:
        async with FakeGateway(dialect, speed=3.0) as gateway:
            backend = ModalBackend(url=gateway.url, **settings(dialect, explicit))

            async def conversation(talk: Talk) -> None:
                await talk.say(1)
                told.extend(talk.words())
                await anyio.sleep(5)

            told: list[Word] = []
            talk = await talked(backend, conversation)
        assert talk.words() == told
        assert [word.text for word in told] == TEXT.split()
        starts = [word.start for word in told]
        assert starts == sorted(starts)

    async def test_times_of_protocol_1_are_those_of_the_audio(self) -> None:
        async with FakeGateway(speed=3.0) as gateway:

            async def conversation(talk: Talk) -> None:
                await talk.say(1)
                await talk.say(2)

            talk = await talked(ModalBackend(url=gateway.url), conversation)
        again = len(frames(SPEECH.samples)) * 0.08
        spoken = list(SPEECH.words)
        starts = [word.start for word in spoken] + [w.start + again for w in spoken]
        told = talk.words()
        assert [word.text for word in told] == TEXT.split() * 2
        for word, start in zip(told, starts, strict=True):
            assert word.start == pytest.approx(start, abs=0.1)
        ends = {event.index for event in talk.events if isinstance(event, WordEnd)}
        assert ends >= set(range(len(told) - 1))

    @pytest.mark.parametrize("leading", [False, True])
    async def test_generation_3_with_and_without_spaces(self, leading: bool) -> None:
        async with FakeGateway("gen3", speed=3.0, leading_space=leading) as gateway:

            async def conversation(talk: Talk) -> None:
                await talk.say(1)

            talk = await talked(ModalBackend(url=gateway.url), conversation)
        assert [word.text for word in talk.words()] == TEXT.split()

    @pytest.mark.parametrize("dialect", ["protocol1", "gen2", "document"])
    async def test_pauses_are_told(self, dialect: Any) -> None:
        async with FakeGateway(dialect, speed=3.0) as gateway:

            async def conversation(talk: Talk) -> None:
                for frame in frames(SPEECH.samples) + [ZEROS] * 40:
                    await talk.connection.send(frame)
                await anyio.sleep(5)

            talk = await talked(ModalBackend(url=gateway.url), conversation)
        last_word = talk.events.index(talk.words()[-1])
        after = talk.events[last_word:]
        assert any(
            isinstance(event, Pause) and set(event.probabilities) == {1.0}
            for event in after
        )

    async def test_capabilities_are_narrowed(self) -> None:
        async with FakeGateway("gen3") as older, FakeGateway(model=STT_2_6B) as newer:
            readies = []
            for gateway in (older, newer):
                backend = ModalBackend(url=gateway.url)
                assert backend.capabilities.acks and backend.capabilities.resettable
                async with backend.connect(ConnectRequest()) as connection:
                    async for event in connection:
                        readies.append(event)
                        break
        before, after = readies
        assert isinstance(before, Ready) and isinstance(after, Ready)
        assert not before.capabilities.acks and not before.capabilities.resettable
        assert not before.capabilities.self_flushing
        assert not after.capabilities.acks and after.capabilities.resettable
        assert after.capabilities.self_flushing
        assert not after.capabilities.pause_horizons_s


class TestProtocol1:
    async def test_reset_in_full_flow(self) -> None:
        async with FakeGateway(speed=3.0) as gateway:

            async def conversation(talk: Talk) -> None:
                await talk.say(1)
                await talk.connection.reset()
                gateway.happen(StaleEpoch())
                await talk.say(2)

            talk = await talked(ModalBackend(url=gateway.url), conversation)
        border = talk.events.index(WasReset())
        for part in (talk.events[:border], talk.events[border:]):
            words = [event for event in part if isinstance(event, Word)]
            assert [word.text for word in words] == TEXT.split()
            assert words[0].index == 0

    async def test_a_slow_start_is_waited_for(self) -> None:
        slow = Attempt(ready_s=60.0)
        async with FakeGateway(attempts=[Attempt(), slow]) as gateway:
            backend = ModalBackend(url=gateway.url)
            async with backend.connect(ConnectRequest()):
                pass
            began = anyio.current_time()
            async with backend.connect(ConnectRequest()) as connection:
                assert anyio.current_time() - began == pytest.approx(60, abs=1)
                async for event in connection:
                    assert isinstance(event, Ready) and event.capabilities.acks
                    break

    async def test_a_slow_first_start_is_worked_with_as_it_comes(self) -> None:
        async with FakeGateway(speed=3.0, attempts=[Attempt(ready_s=9.0)]) as gateway:

            async def conversation(talk: Talk) -> None:
                await talk.say(1)
                await talk.until(lambda: len(talk.words()) == len(SPEECH.words))

            talk = await talked(ModalBackend(url=gateway.url), conversation)
        ready = talk.events[0]
        assert isinstance(ready, Ready) and not ready.capabilities.acks
        assert [word.text for word in talk.words()] == TEXT.split()

    async def test_one_that_is_never_ready(self) -> None:
        dead = Attempt(never_ready=True)
        async with FakeGateway(attempts=[dead]) as gateway:
            backend = ModalBackend(
                url=gateway.url, dialect="protocol1", ready_timeout_s=20.0
            )
            with pytest.raises(ConnectFailed, match="not ready within 20 s"):
                await attempt(backend)

    async def test_an_address_that_changes_hands(self) -> None:
        """It was protocol 1; an older gateway has taken its place."""
        async with FakeGateway() as gateway:
            backend = ModalBackend(url=gateway.url, ready_timeout_s=20.0)
            async with backend.connect(ConnectRequest()):
                pass
            gateway.dialect = "gen3"
            with pytest.raises(ConnectFailed):
                await attempt(backend)
            began = anyio.current_time()
            for waited in (3.0, 0.0):
                async with backend.connect(ConnectRequest()):
                    lasted = anyio.current_time() - began
                    assert lasted == pytest.approx(waited, abs=0.5)
                began = anyio.current_time()

    async def test_an_older_one_that_was_replaced(self) -> None:
        async with FakeGateway("gen3") as gateway:
            backend = ModalBackend(url=gateway.url)
            async with backend.connect(ConnectRequest()):
                pass
            gateway.dialect = "protocol1"
            acks = []
            for _ in range(2):
                async with backend.connect(ConnectRequest()) as connection:
                    async for event in connection:
                        assert isinstance(event, Ready)
                        acks.append(event.capabilities.acks)
                        break
                    # Its `ready` came by now; the session reads on.
                    with anyio.move_on_after(1):
                        async for _event in connection:
                            pass
            assert acks == [False, True]

    async def test_draining_then_the_end(self) -> None:
        async with FakeGateway(speed=3.0) as gateway:

            async def conversation(talk: Talk) -> None:
                await talk.say(1)
                gateway.happen(Drain(deadline_s=5.0))
                error = await talk.lost()
                assert isinstance(error, ConnectionLost) and "draining" in str(error)

            talk = await talked(ModalBackend(url=gateway.url), conversation)
        assert Draining(deadline_s=5.0) in talk.events

    async def test_keepalives_hold_an_idle_stream(self) -> None:
        async with FakeGateway(speed=3.0) as gateway:
            await keep_alive_for(ModalBackend(url=gateway.url), 300.0)
            assert gateway.connections[0].keepalives > 30
            assert gateway.connections[0].messages == len(frames(SPEECH.samples))

    async def test_unknown_messages_are_ignored(self) -> None:
        async with FakeGateway(speed=3.0) as gateway:

            async def conversation(talk: Talk) -> None:
                gateway.happen(UnknownMessages())
                await talk.say(1)

            talk = await talked(ModalBackend(url=gateway.url), conversation)
        assert [word.text for word in talk.words()] == TEXT.split()


async def keep_alive_for(backend: ModalBackend, seconds: float) -> None:
    async def conversation(talk: Talk) -> None:
        await talk.until(lambda: bool(talk.events))
        ready = talk.events[0]
        assert isinstance(ready, Ready)
        interval_s = ready.capabilities.keepalive_interval_s
        assert interval_s is not None
        for _ in range(round(seconds / interval_s)):
            await anyio.sleep(interval_s)
            await talk.connection.keepalive()
        assert talk.failure is None
        await talk.say(1)
        assert [word.text for word in talk.words()] == TEXT.split()

    await talked(backend, conversation)


class TestOlder:
    @pytest.mark.parametrize(
        ("dialect", "chosen"),
        [("gen2", "gen2"), ("gen3", "auto"), ("gen3", "gen3"), ("document", "auto")],
    )
    async def test_keepalives_hold_an_idle_stream(
        self, dialect: Any, chosen: Any
    ) -> None:
        async with FakeGateway(dialect, speed=3.0) as gateway:
            backend = ModalBackend(url=gateway.url, dialect=chosen)
            await keep_alive_for(backend, 300.0)

    async def test_generation_1_needs_none(self) -> None:
        async with FakeGateway("gen1") as gateway:
            backend = ModalBackend(url=gateway.url, dialect="gen1")
            assert backend.capabilities.keepalive_interval_s is None

            async def conversation(talk: Talk) -> None:
                await talk.connection.keepalive()
                await anyio.sleep(1)
                assert talk.failure is None

            await talked(backend, conversation)

    async def test_generation_1_under_another_name_is_named(self) -> None:
        async with FakeGateway("gen1") as gateway:

            async def conversation(talk: Talk) -> None:
                # A frame of float32 has an even length: only an odd one is refused.
                await talk.connection.keepalive()
                error = await talk.lost()
                assert isinstance(error, ProtocolError) and "gen1" in str(error)

            await talked(ModalBackend(url=gateway.url), conversation)

    async def test_full_is_seen_from_an_early_end(self) -> None:
        async with FakeGateway("gen3", attempts=[Attempt(full=True)]) as gateway:

            async def conversation(talk: Talk) -> None:
                for _ in range(3):
                    await talk.connection.send(ZEROS)
                    await anyio.sleep(0.08)

            backend = ModalBackend(url=gateway.url, dialect="gen3")
            with pytest.raises(CapacityError):
                await full(backend)

    async def test_a_later_end_is_a_loss(self) -> None:
        async with FakeGateway("gen3", speed=3.0) as gateway:

            async def conversation(talk: Talk) -> None:
                await talk.say(1)
                gateway.happen(CloseWith(code=1000))
                assert isinstance(await talk.lost(), ConnectionLost)

            await talked(ModalBackend(url=gateway.url), conversation)

    async def test_reset_is_refused(self) -> None:
        async with FakeGateway("gen3") as gateway:

            async def conversation(talk: Talk) -> None:
                with pytest.raises(ConfigError):
                    await talk.connection.reset()

            await talked(ModalBackend(url=gateway.url, dialect="gen3"), conversation)


async def full(backend: ModalBackend) -> None:
    async with backend.connect(ConnectRequest()) as connection:
        for _ in range(3):
            await connection.send(ZEROS)
        async for _ in connection:
            pass


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
