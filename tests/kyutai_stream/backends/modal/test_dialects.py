"""What the backend does with gateways of every dialect, on the fake one."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from kyutai_stream.backend import (
    ConnectRequest,
    Draining,
    Pause,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.backends.modal import ModalBackend
from kyutai_stream.errors import (
    CapacityError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    ProtocolError,
)
from kyutai_stream.testing import FakeGateway, check_backend
from kyutai_stream.testing.gateway import (
    Attempt,
    CloseWith,
    Drain,
    StaleEpoch,
    UnknownMessages,
)
from kyutai_stream.testing.moshi_server import STT_2_6B

from ..talk import SPEECH, TEXT, ZEROS, Talk, attempt, frames, talked

OLDER = ("gen1", "gen2", "gen3", "document")


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
