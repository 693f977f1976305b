"""The client's side: kyutai_stream's `modal` backend and whole sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from kyutai_gateway.stream import StreamRules
from kyutai_stream import AuthError, CapacityError, Connection, ConnectRequest
from kyutai_stream.backends.modal import ModalBackend
from kyutai_stream.testing import check_backend
from kyutai_stream.testing.chaos import caption
from kyutai_stream.testing.tones import Utterance, speak

Open = Callable[..., Any]


@pytest.fixture
def talk() -> Utterance:
    """Twenty seconds."""
    text = "alpha bravo charlie. delta echo foxtrot golf. hotel india juliett kilo. "
    return speak(text * 3, lead_s=0.5, seed=5)


class AloneBackend:
    """Leaves only when the servers, of this same process, have closed as well.

    The conformance suite counts the descriptors of the process.
    """

    def __init__(self, inner: ModalBackend, it: Any) -> None:
        self._inner = inner
        self._it = it
        self.name = inner.name
        self.description = inner.description
        self.capabilities = inner.capabilities

    @asynccontextmanager
    async def connect(self, request: ConnectRequest) -> AsyncIterator[Connection]:
        async with self._inner.connect(request) as connection:
            yield connection
        await self._it.empty()
        await self._it.moshi.wait_until(lambda: self._it.moshi.used_slots == 0)
        await anyio.sleep(3)


async def test_conformance(bench: Open, spoken: Utterance) -> None:
    async with bench() as it:
        backend = ModalBackend(url=it.url, dialect="protocol1")
        await check_backend(AloneBackend(backend, it), speech=spoken.samples)


async def test_it_says_what_it_can(bench: Open) -> None:
    async with bench(auth="pair", key="wk-1", secret="ws-2") as it:
        backend = ModalBackend(url=it.url, key="wk-1", secret="ws-2")
        async with backend.connect(ConnectRequest()) as connection:
            async for event in connection:
                able = event.capabilities  # type: ignore[union-attr]  # Ready is first
                break
        assert able.acks and able.resettable and able.self_flushing
        assert able.nominal_delay_s == pytest.approx(0.48)
        with pytest.raises(AuthError):
            async with ModalBackend(url=it.url, key="wk-1", secret="no").connect(
                ConnectRequest()
            ):
                pass


async def test_full_is_a_capacity_error(bench: Open) -> None:
    async with bench(slots=1) as it:
        backend = ModalBackend(url=it.url)
        async with backend.connect(ConnectRequest()):
            with pytest.raises(CapacityError):
                async with backend.connect(ConnectRequest()):
                    pass


async def test_a_session(bench: Open, talk: Utterance) -> None:
    async with bench() as it:
        heard = await caption(ModalBackend(url=it.url), talk)
        heard.require_whole(talk)
        assert heard.metrics is not None
        assert len(it.moshi.connections) == 1


async def cut(it: Any) -> None:
    it.moshi.cut_all()


async def restart(it: Any) -> None:
    await it.moshi.restart(down_s=3)


async def wedge(it: Any) -> None:
    it.moshi.stall()
    await anyio.sleep(12)
    it.moshi.resume()


async def slow(it: Any) -> None:
    it.moshi.speed = 0.5
    await anyio.sleep(6)
    it.moshi.speed = 3.0


@pytest.mark.parametrize("trouble", [cut, restart, wedge, slow])
async def test_a_session_in_trouble_loses_nothing(
    trouble: Callable[[Any], Awaitable[None]], bench: Open, talk: Utterance
) -> None:
    async with bench() as it:
        heard = await caption(
            ModalBackend(url=it.url),
            talk,
            trouble=lambda: trouble(it),
            trouble_at_s=6.2,
        )
        heard.require_whole(talk)


async def test_a_session_over_rotations_loses_nothing(
    bench: Open, talk: Utterance
) -> None:
    rules = StreamRules(max_stream_s=6, rotation_notice_s=4)
    async with bench(rules=rules) as it:
        heard = await caption(ModalBackend(url=it.url), talk)
        heard.require_whole(talk)
        assert len(it.moshi.connections) >= 3


async def test_a_muted_session_hears_its_last_words(
    bench: Open, spoken: Utterance
) -> None:
    async with bench() as it:
        heard = await caption(ModalBackend(url=it.url), spoken, silence_after_s=30)
        heard.require_whole(spoken)
        last = max(
            at
            for event, at in zip(heard.events, heard.times, strict=True)
            if event in heard.finals
        )
        assert last - heard.times[0] < 8
