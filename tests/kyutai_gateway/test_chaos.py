"""Words survive whatever happens to the gateway, to its model, or in between.

The chaos property of `kyutai_stream` (tests/kyutai_stream/session/test_chaos.py), with
the whole gateway in the way: the client's `modal` backend, uvicorn, the attached
server's probes, the fake moshi-server that hears tones. Virtual time, real sockets.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus
from attrs import evolve

from kyutai_gateway.app import create_app
from kyutai_gateway.attached import AttachedServer
from kyutai_gateway.serving import Serving, serving
from kyutai_gateway.settings import GatewaySettings
from kyutai_gateway.stream import StreamRules
from kyutai_gateway.upstream import UpstreamState
from kyutai_stream.backend import ConnectRequest
from kyutai_stream.backends.modal import ModalBackend
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.testing.chaos import Hearing, caption
from kyutai_stream.testing.moshi_server import (
    STT_1B,
    ConnectionPlan,
    FakeMoshiServer,
    Redecoding,
)
from kyutai_stream.testing.real.link import Link, open_link
from kyutai_stream.testing.tones import VOCABULARY, Utterance, speak
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.timeout(400)

KEY, SECRET = "wk-chaos", "ws-chaos"
PROBE = ConnectionPlan()
"""The gateway's first connection is its probe: nothing happens to it."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


def sentences(count: int) -> Utterance:
    """So many words of the vocabulary, in sentences of five."""
    words = [VOCABULARY[i % len(VOCABULARY)] for i in range(count)]
    marked = [word + "." * (i % 5 == 4) for i, word in enumerate(words)]
    return speak(marked, lead_s=0.3)


TWENTY = sentences(20)
FRAMES = math.ceil(TWENTY.duration_s / 0.08)
LONG = sentences(80)
"""About 47 s."""


class Site:
    """A gateway in front of a fake, that can go away and come back."""

    def __init__(
        self,
        moshi: FakeMoshiServer,
        settings: GatewaySettings,
        rules: StreamRules | None,
        tasks: TaskGroup,
    ) -> None:
        self.moshi = moshi
        self._rules = rules
        self._settings = settings
        self._tasks = tasks
        self._stop = anyio.Event()
        self._stopped = anyio.Event()
        self.serving: Serving
        self.upstream: AttachedServer

    @property
    def port(self) -> int:
        return self._settings.port

    @property
    def url(self) -> str:
        return self.serving.url

    async def up(self, *, wait: bool = True) -> None:
        """Start it, at the same port as before."""
        await self._tasks.start(self._run)
        self._settings = evolve(self._settings, port=self.serving.port)
        if wait:
            await self.upstream.wait_ready()

    async def down(self, *, drain: bool = False) -> None:
        """End it, as by SIGTERM or at once."""
        if drain:
            self.serving.terminate()
            await self.serving.ended.wait()
        self._stop.set()
        await self._stopped.wait()

    async def restart(self, *, down_s: float = 0.0, drain: bool = False) -> None:
        await self.down(drain=drain)
        await anyio.sleep(down_s)
        await self.up()

    async def _run(self, *, task_status: TaskStatus[None]) -> None:
        self._stop, self._stopped = anyio.Event(), anyio.Event()
        async with AttachedServer(self._settings) as self.upstream:
            app = create_app(self._settings, self.upstream, rules=self._rules)
            async with serving(app, self._settings) as self.serving:
                task_status.started()
                await self._stop.wait()
        self._stopped.set()


@asynccontextmanager
async def site(
    moshi: FakeMoshiServer,
    *,
    wait: bool = True,
    slots: int = 4,
    rules: StreamRules | None = None,
) -> AsyncIterator[Site]:
    """Run a gateway in front of a fake."""
    known = GatewaySettings(
        port=0,
        key=KEY,
        secret=SECRET,
        attach_url=moshi.url,
        drain_s=5.0,
        slots=slots,
    )
    async with anyio.create_task_group() as tasks:
        made = Site(moshi, known, rules, tasks)
        await made.up(wait=wait)
        yield made
        tasks.cancel_scope.cancel()


def client(url: str) -> ModalBackend:
    return ModalBackend(url=url, key=KEY, secret=SECRET)


async def cut_at(frame: int, moshi: FakeMoshiServer, link: Link) -> None:
    """Cut the client off when so many of its frames have come through."""

    def came() -> bool:
        streams = moshi.connections[1:]
        return bool(streams) and streams[0].ready and streams[0].frames >= frame

    await moshi.wait_until(came, timeout_s=60)
    link.cut()


class TestEveryCut:
    @pytest.mark.parametrize("first", range(0, FRAMES, 25))
    async def test_between_client_and_gateway(self, first: int) -> None:
        for frame in range(first, min(first + 25, FRAMES), 5):
            async with (
                FakeMoshiServer() as moshi,
                site(moshi) as gateway,
                open_link(gateway.port) as link,
            ):
                heard = await caption(
                    client(link.url_of(gateway.url)),
                    TWENTY,
                    trouble=partial(cut_at, frame, moshi, link),
                )
                await moshi.wait_until(lambda: moshi.used_slots == 0)
            heard.require_whole(TWENTY)
            assert heard.metrics is not None
            assert heard.metrics.reconnects + heard.metrics.failed_attempts == 1

    @pytest.mark.parametrize("first", range(0, FRAMES, 25))
    async def test_between_gateway_and_model(self, first: int) -> None:
        for frame in range(first, min(first + 25, FRAMES), 5):
            plan = ConnectionPlan(cut_after_frames=frame)
            async with (
                FakeMoshiServer(plans=[PROBE, plan]) as moshi,
                site(moshi) as gateway,
            ):
                heard = await caption(client(gateway.url), TWENTY)
                await moshi.wait_until(lambda: moshi.used_slots == 0)
            heard.require_whole(TWENTY)
            assert heard.metrics is not None
            assert heard.metrics.reconnects + heard.metrics.failed_attempts == 1


Trouble = Callable[[Site], Awaitable[object]]


async def suffer(
    trouble: Trouble,
    *,
    at_s: float = 5.0,
    said: Utterance = LONG,
    rules: StreamRules | None = None,
) -> Hearing:
    model = evolve(STT_1B, redecoding=Redecoding(seed=7))
    async with (
        FakeMoshiServer(model) as moshi,
        site(moshi, rules=rules) as gateway,
    ):
        heard = await caption(
            client(gateway.url),
            said,
            trouble=lambda: trouble(gateway),
            trouble_at_s=at_s,
        )
        await moshi.wait_until(lambda: moshi.used_slots == 0)
    return heard


class TestTheModelServer:
    @pytest.mark.parametrize("down_s", [0.0, 2.0, 12.0, 25.0])
    async def test_a_restart(self, down_s: float) -> None:
        heard = await suffer(lambda it: it.moshi.restart(down_s=down_s))
        heard.require_whole(LONG)
        assert heard.metrics is not None and heard.metrics.reconnects >= 1

    @pytest.mark.parametrize("seconds", [3.0, 12.0, 25.0])
    async def test_a_model_loop_that_stands_still(self, seconds: float) -> None:
        async def stall(it: Site) -> None:
            it.moshi.stall()
            await anyio.sleep(seconds)
            it.moshi.resume()

        heard = await suffer(stall)
        heard.require_whole(LONG)

    async def test_a_wedged_one_is_seen_and_comes_back(self) -> None:
        states = []

        async def wedge(it: Site) -> None:
            it.moshi.wedge()
            # 8 s until a stream says so, 10 until the probe has.
            await anyio.sleep(20)
            states.append(it.upstream.state)
            await it.moshi.restart()

        heard = await suffer(wedge)
        heard.require_whole(LONG)
        assert states == [UpstreamState.WEDGED]

    async def test_somebody_else_has_its_only_place_for_a_while(self) -> None:
        async with (
            FakeMoshiServer(evolve(STT_1B, batch_size=1)) as moshi,
            site(moshi, slots=1) as gateway,
        ):

            async def take_it() -> None:
                moshi.cut_all()
                await moshi.wait_until(lambda: moshi.used_slots == 0)
                other = MoshiServerBackend(url=moshi.url)
                async with other.connect(ConnectRequest()):
                    await anyio.sleep(20)

            heard = await caption(
                client(gateway.url), LONG, trouble=take_it, trouble_at_s=5.0
            )
        heard.require_whole(LONG)
        assert heard.metrics is not None and heard.metrics.capacity_refusals > 3

    async def test_one_in_the_last_words(self) -> None:
        heard = await suffer(
            lambda it: it.moshi.restart(down_s=20),
            at_s=TWENTY.duration_s - 0.3,
            said=TWENTY,
        )
        heard.require_whole(TWENTY)


class TestTheGateway:
    @pytest.mark.parametrize("down_s", [0.0, 2.0, 12.0, 25.0])
    async def test_it_is_gone_for_a_while(self, down_s: float) -> None:
        heard = await suffer(lambda it: it.restart(down_s=down_s))
        heard.require_whole(LONG)
        assert heard.metrics is not None and heard.metrics.reconnects >= 1

    async def test_it_drains_and_another_takes_its_place(self) -> None:
        heard = await suffer(lambda it: it.restart(drain=True))
        heard.require_whole(LONG)
        assert heard.metrics is not None
        assert heard.metrics.usage.connections >= 2

    async def test_streams_are_asked_to_move_now_and_then(self) -> None:
        rules = StreamRules(max_stream_s=6.0, rotation_notice_s=4.0)
        heard = await suffer(nothing, rules=rules)
        heard.require_whole(LONG)
        assert heard.metrics is not None
        assert heard.metrics.usage.connections >= 5

    async def test_all_places_are_taken_for_a_while(self) -> None:
        async with (
            FakeMoshiServer() as moshi,
            site(moshi, slots=1) as gateway,
        ):
            refused = anyio.Event()

            async def hold() -> None:
                async with client(gateway.url).connect(ConnectRequest()):
                    holding.set()
                    await anyio.sleep(20)
                refused.set()

            holding = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold)
                await holding.wait()
                heard = await caption(client(gateway.url), LONG)
        heard.require_whole(LONG)
        assert refused.is_set()
        assert heard.metrics is not None and heard.metrics.capacity_refusals > 3

    async def test_a_wire_that_swallows_everything(self) -> None:
        async with (
            FakeMoshiServer() as moshi,
            site(moshi) as gateway,
            open_link(gateway.port) as link,
        ):

            async def freeze() -> None:
                link.freeze()
                await anyio.sleep(20)
                link.cut()
                link.thaw()

            heard = await caption(
                client(link.url_of(gateway.url)),
                LONG,
                trouble=freeze,
                trouble_at_s=5.0,
            )
        heard.require_whole(LONG)


class TestColdStart:
    async def test_a_minute_until_the_model_is_there(self) -> None:
        said = sentences(140)
        async with FakeMoshiServer(speed=3.0) as moshi:
            await moshi.stop_listening()
            async with site(moshi, wait=False) as gateway:
                heard = await caption(
                    client(gateway.url),
                    said,
                    trouble=moshi.start_listening,
                    trouble_at_s=60.0,
                )
        heard.require_whole(said)

    async def test_a_minute_until_the_gateway_is_there(self) -> None:
        said = sentences(140)
        async with FakeMoshiServer(speed=3.0) as moshi, site(moshi) as gateway:
            url = gateway.url
            await gateway.down()
            heard = await caption(
                client(url), said, trouble=gateway.up, trouble_at_s=60.0
            )
        heard.require_whole(said)


async def nothing(_: Site) -> None:
    """Only the settings make trouble."""
