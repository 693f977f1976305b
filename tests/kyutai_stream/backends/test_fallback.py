from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio
import numpy as np
import pytest

from kyutai_stream.backend import (
    Capabilities,
    ConnectionEvent,
    ConnectRequest,
    Ready,
    Word,
)
from kyutai_stream.backends.fallback import Fallback
from kyutai_stream.errors import (
    AuthError,
    BackendUnavailable,
    CapacityError,
    ConfigError,
    ConnectFailed,
    KyutaiStreamError,
    ProtocolError,
)
from kyutai_stream.testing import (
    ConnectionScript,
    ScriptedBackend,
    ScriptedWord,
    VirtualTimeLoop,
    check_backend,
)

REFUSALS = (
    AuthError("key"),
    BackendUnavailable("extra"),
    CapacityError("full"),
    ConnectFailed("gone"),
)
WORDS = ConnectionScript(words=(ScriptedWord(text="hello", start=0.1, end=0.4),))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Named(ScriptedBackend):
    """A scripted backend with a name; fails as listed, then works."""

    def __init__(
        self,
        name: str,
        *refusals: Exception | None,
        capabilities: Capabilities | None = None,
    ) -> None:
        scripts = [ConnectionScript(refuse=refusal) for refusal in refusals]
        super().__init__(*scripts, WORDS, capabilities=capabilities)
        self.name = name


async def served(fallback: Fallback, language: str | None = None) -> str:
    """Connect; return the name in `Ready`."""
    async with fallback.connect(ConnectRequest(language=language)) as connection:
        async for event in connection:
            assert isinstance(event, Ready)
            return event.backend
    raise AssertionError("no Ready")


async def test_it_keeps_to_the_contract() -> None:
    fallback = Fallback([Named("first", ConnectFailed("gone")), Named("second")])
    await check_backend(fallback, speech=np.zeros(72_000, dtype=np.float32))


async def test_it_passes_everything_on() -> None:
    first = Named("first")
    async with Fallback([first]).connect(ConnectRequest()) as connection:
        await connection.keepalive()
        for _ in range(12):
            await connection.send(np.zeros(1920, dtype=np.float32))
        await connection.request_flush(3)
        await connection.reset()
        events: list[ConnectionEvent] = []
        async for event in connection:
            events.append(event)
            if isinstance(event, Word):
                break
    (used,) = first.connections
    assert (used.keepalives, len(used.frames), used.flushes) == (1, 12, [3])
    assert events[0] == Ready(capabilities=first.capabilities, backend="first")


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda e: type(e).__name__)
async def test_the_next_one_serves(refusal: KyutaiStreamError) -> None:
    first, second = Named("first", refusal), Named("second")
    assert await served(Fallback([first, second])) == "second"
    assert first.open == second.open == 0


@pytest.mark.parametrize("refusal", [ConfigError("url"), ProtocolError("garbage")])
async def test_a_mistake_is_seen(refusal: KyutaiStreamError) -> None:
    with pytest.raises(type(refusal)):
        await served(Fallback([Named("first", refusal), Named("second")]))


async def test_one_that_failed_comes_last_for_a_while() -> None:
    first, second = Named("first", ConnectFailed("gone")), Named("second")
    fallback = Fallback([first, second], retry_first_after_s=60)
    assert await served(fallback) == "second"
    await anyio.sleep(59)
    assert await served(fallback) == "second"
    assert len(first.requests) == 1
    await anyio.sleep(2)
    assert await served(fallback) == "first"
    assert await served(fallback) == "first"


async def test_a_longer_wait_that_was_asked_for_is_respected() -> None:
    full = CapacityError("full", retry_after_s=300)
    fallback = Fallback([Named("first", full), Named("second")])
    for seconds, name in ((0, "second"), (299, "second"), (2, "first")):
        await anyio.sleep(seconds)
        assert await served(fallback) == name


async def test_the_last_resort_is_one_that_failed_before() -> None:
    first = Named("first", ConnectFailed("gone"))
    second = Named("second", None, ConnectFailed("gone"))
    fallback = Fallback([first, second])
    assert await served(fallback) == "second"
    assert await served(fallback) == "first"


async def test_one_that_works_again_is_forgiven() -> None:
    first = Named("first", CapacityError("full", retry_after_s=300))
    second = Named("second", None, ConnectFailed("gone"))
    fallback = Fallback([first, second])
    for seconds, name in ((0, "second"), (1, "first"), (100, "first")):
        await anyio.sleep(seconds)
        assert await served(fallback) == name


@pytest.mark.parametrize(
    ("refusals", "raised"),
    [
        (REFUSALS, CapacityError),
        (REFUSALS[:2] + REFUSALS[3:], ConnectFailed),
        (REFUSALS[:2], AuthError),
        (REFUSALS[1:2], BackendUnavailable),
    ],
)
async def test_the_most_hopeful_error_of_all(
    refusals: Sequence[KyutaiStreamError], raised: type[KyutaiStreamError]
) -> None:
    backends = [Named(str(number), one) for number, one in enumerate(refusals)]
    with pytest.raises(raised):
        await served(Fallback(backends))


async def test_languages_choose() -> None:
    english = Named("english", capabilities=Capabilities(languages=("en",)))
    both = Named("both", capabilities=Capabilities(languages=("en", "fr")))
    fallback = Fallback([english, both])
    assert fallback.capabilities.languages == ("en", "fr")
    assert await served(fallback, "fr") == "both"
    assert await served(fallback, "en") == await served(fallback) == "english"
    with pytest.raises(ConfigError, match="english or both"):
        await served(fallback, "de")
    either = Fallback([english, Named("any", capabilities=Capabilities())])
    assert either.capabilities.languages == ()
    assert await served(either, "de") == "any"


def test_capabilities_hold_for_all() -> None:
    rich = Capabilities(
        pause_horizons_s=(1.0, 2.0),
        acks=True,
        resettable=True,
        self_flushing=True,
        nominal_delay_s=0.48,
        keepalive_interval_s=50,
        max_sessions=3,
        punctuation=True,
    )
    poor = Capabilities(nominal_delay_s=2.56, silence_prefix_s=1.0, max_sessions=2)
    same = Fallback([Named("a", capabilities=rich), Named("b", capabilities=rich)])
    assert same.capabilities.pause_horizons_s == (1.0, 2.0)
    assert same.capabilities.acks
    mixed = Fallback([Named("a", capabilities=rich), Named("b", capabilities=poor)])
    assert mixed.capabilities == Capabilities(
        nominal_delay_s=2.56,
        silence_prefix_s=1.0,
        keepalive_interval_s=50,
        max_sessions=5,
    )
    open_ended = Fallback([Named("a", capabilities=rich), Named("b")])
    assert open_ended.capabilities.max_sessions is None
    assert mixed.name == "a or b" and "a or b" in mixed.description


@pytest.mark.parametrize(
    "backends",
    [
        [],
        [Named("a"), Named("b", capabilities=Capabilities(transcribes=False))],
    ],
)
def test_what_makes_no_fallback(backends: list[ScriptedBackend]) -> None:
    with pytest.raises(ConfigError):
        Fallback(backends)


async def test_failures_are_logged_the_lasting_ones_louder(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    backends = [Named("a", AuthError("key")), Named("b", CapacityError("full"))]
    await served(Fallback([*backends, Named("c")]))
    told = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert told == [
        ("WARNING", "backend a failed: key"),
        ("INFO", "backend b failed: full"),
    ]
