"""A whole gateway on loopback, in virtual time: uvicorn, the app, a fake model."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, Self

import anyio
import pytest
from attrs import define, field, frozen
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from kyutai_gateway.app import Gateway, create_app
from kyutai_gateway.serving import Serving, serving
from kyutai_gateway.stream import StreamRules
from kyutai_gateway.upstream import UpstreamState
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.testing.moshi_server import (
    STT_1B,
    FakeMoshiServer,
    Model,
    Recogniser,
)
from kyutai_stream.testing.tones import ToneRecogniser, Utterance, speak
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

Hear = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How messages come: `direct`, or `plain` as on servers that we did not write.

    A module that wants both is marked `parametrize("way", [...], indirect=True)`.
    """
    way: str = getattr(request, "param", "direct")
    if way == "plain":
        name = "kyutai_gateway.serving.websocket_class"
        monkeypatch.setattr(name, lambda: "websockets-sansio")
    return way


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


@frozen(kw_only=True)
class Options:
    """Settings of the gateway under test."""

    host: str = "127.0.0.1"
    port: int = 0
    drain_s: float = 5.0
    auth: Literal["pair", "bearer", "none"] = "none"
    key: str = ""
    secret: str = ""
    bearer: str = ""
    max_stream_s: float = 3600.0
    idle_timeout_s: float = 30.0
    quiet_timeout_s: float = 1800.0


@define
class StandInUpstream:
    """An upstream that somebody else watches."""

    backend: MoshiServerBackend
    slots: int = 64
    state: UpstreamState = UpstreamState.READY
    model: str = "fake"
    suspected: int = 0
    http_url: str | None = None
    ready: anyio.Event = field(factory=anyio.Event)

    async def wait_ready(self) -> None:
        if self.state is not UpstreamState.READY:
            await self.ready.wait()

    def suspect(self) -> None:
        self.suspected += 1

    def become(self, state: UpstreamState) -> None:
        self.state = state
        if state is UpstreamState.READY:
            self.ready.set()


@define
class Bench:
    """A running gateway and what is behind it."""

    gateway: Gateway
    serving: Serving
    upstream: StandInUpstream
    moshi: FakeMoshiServer

    @property
    def url(self) -> str:
        return self.serving.url

    async def empty(self) -> None:
        """Wait until no stream is left."""
        with anyio.fail_after(5):
            while self.gateway.used:
                await self.gateway.streams.changed.wait()

    def connect(self, **options: Any) -> connect:
        return connect(self.url, compression=None, **options)


Open = Callable[..., AbstractAsyncContextManager[Bench]]


@asynccontextmanager
async def open_bench(
    *,
    moshi: FakeMoshiServer | None = None,
    slots: int = 64,
    rules: StreamRules | None = None,
    model: str = "stt-1b-en_fr",
    state: UpstreamState = UpstreamState.READY,
    **settings: Any,
) -> AsyncIterator[Bench]:
    """Run a gateway in front of a fake moshi-server."""
    options = Options(**settings)
    async with moshi or FakeMoshiServer() as server:
        upstream = StandInUpstream(
            MoshiServerBackend(url=server.url, model=model), slots=slots, state=state
        )
        gateway = create_app(options, upstream, rules=rules)
        async with serving(gateway, options) as running:
            yield Bench(gateway, running, upstream, server)


@pytest.fixture
def bench() -> Open:
    return open_bench


class RealGateway:
    """Takes what `FakeGateway` takes, as far as its protocol tests use it."""

    def __init__(
        self,
        *,
        model: Model = STT_1B,
        speed: float | None = None,
        listen: Callable[[], Recogniser] = ToneRecogniser,
    ) -> None:
        speed = math.inf if speed is None else speed
        moshi = FakeMoshiServer(model, speed=speed, listen=listen)
        name = "stt-1b-en_fr" if model.pause_heads else "stt-2.6b-en"
        self._bench = open_bench(moshi=moshi, model=name)
        self.url = ""

    async def __aenter__(self) -> Self:
        self.url = (await self._bench.__aenter__()).url
        return self

    async def __aexit__(self, *exc: Any) -> bool | None:
        return await self._bench.__aexit__(*exc)


@pytest.fixture
def real_gateway() -> type[RealGateway]:
    return RealGateway


@pytest.fixture
def spoken() -> Utterance:
    """Five words with a sentence pause; ends 0.1 s after the last."""
    return speak(
        "alpha bravo charlie. delta november",
        lead_s=0.3,
        sentence_pause_s=1.5,
        tail_s=0.1,
        seed=3,
    )


@pytest.fixture
def hear() -> Hear:
    """All JSON messages until the close, or for some seconds of virtual time."""

    async def hear(
        socket: ClientConnection, seconds: float = 5.0
    ) -> list[dict[str, Any]]:
        messages = []
        with anyio.move_on_after(seconds):
            try:
                while True:
                    messages.append(json.loads(await socket.recv()))
            except ConnectionClosed:
                pass
        return messages

    return hear
