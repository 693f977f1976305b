"""Words survive whatever happens to the recogniser (issue 3's chaos property).

The words are decoded from the audio itself, by the tone recogniser inside the fake
server; everything runs on real loopback sockets in virtual time.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import pytest
from attrs import evolve

from kyutai_stream import Final, FinalReason, Gap, Partial, open_session
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.testing.chaos import Hearing, caption, patient
from kyutai_stream.testing.moshi_server import (
    STT_1B,
    ConnectionPlan,
    FakeMoshiServer,
    Redecoding,
)
from kyutai_stream.testing.tones import VOCABULARY, Utterance, speak
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


def sentences(count: int) -> Utterance:
    """So many words of the vocabulary, in sentences of five."""
    words = [VOCABULARY[i % len(VOCABULARY)] for i in range(count)]
    marked = [word + "." * (i % 5 == 4) for i, word in enumerate(words)]
    return speak(marked, lead_s=0.3)


TWENTY = sentences(20)
FRAMES = math.ceil(TWENTY.duration_s / 0.08) + 9
"""Frames of the utterance and of the silence that flushes it."""


async def cut_at(frame: int, redecoding: Redecoding | None = None) -> Hearing:
    model = evolve(STT_1B, redecoding=redecoding)
    plan = ConnectionPlan(cut_after_frames=frame)
    async with FakeMoshiServer(model, plans=[plan]) as server:
        heard = await caption(MoshiServerBackend(url=server.url), TWENTY)
        await server.wait_until(lambda: server.used_slots == 0)
    return heard


class TestEveryCut:
    @pytest.mark.parametrize("first", range(0, FRAMES, 10))
    async def test_no_word_is_lost_or_doubled(self, first: int) -> None:
        for frame in range(first, min(first + 10, FRAMES)):
            heard = await cut_at(frame)
            heard.require_whole(TWENTY)
            assert heard.metrics is not None
            # Also in the last frames of the silence that brings out the words.
            assert heard.metrics.reconnects + heard.metrics.failed_attempts == 1
            assert heard.metrics.usage.audio_pushed_s == pytest.approx(
                TWENTY.duration_s
            )

    async def test_nor_when_the_audio_is_heard_differently(self) -> None:
        # Every third place, another re-decoding each time.
        wrong = 0
        for frame in range(0, FRAMES, 3):
            heard = await cut_at(frame, Redecoding(seed=frame))
            assert heard.gaps == []
            heard.require_order()
            wrong += heard.wrong_words(TWENTY)
        assert wrong <= FRAMES / 3 / 100


LONG = sentences(80)
"""About 47 s."""

Trouble = Callable[[FakeMoshiServer], Awaitable[object]]


async def suffer(trouble: Trouble, *, at_s: float = 5.0) -> Hearing:
    model = evolve(STT_1B, redecoding=Redecoding(seed=7))
    async with FakeMoshiServer(model) as server:
        heard = await caption(
            MoshiServerBackend(url=server.url),
            LONG,
            trouble=lambda: trouble(server),
            trouble_at_s=at_s,
        )
        await server.wait_until(lambda: server.used_slots == 0)
    return heard


class TestOutages:
    @pytest.mark.parametrize("down_s", [0.0, 2.0, 12.0, 29.5])
    async def test_a_restart(self, down_s: float) -> None:
        heard = await suffer(lambda server: server.restart(down_s=down_s))
        heard.require_whole(LONG)
        assert heard.metrics is not None and heard.metrics.reconnects >= 1

    @pytest.mark.parametrize("seconds", [3.0, 12.0, 29.0])
    async def test_a_model_loop_that_stands_still(self, seconds: float) -> None:
        async def stall(server: FakeMoshiServer) -> None:
            server.stall()
            await anyio.sleep(seconds)
            server.resume()

        heard = await suffer(stall)
        heard.require_whole(LONG)

    async def test_no_free_channel_for_a_while(self) -> None:
        async def full(server: FakeMoshiServer) -> None:
            server.full = True
            server.cut_all()
            await anyio.sleep(20)
            server.full = False

        heard = await suffer(full)
        heard.require_whole(LONG)
        assert heard.metrics is not None and heard.metrics.capacity_refusals > 3

    async def test_a_half_open_connection(self) -> None:
        plan = ConnectionPlan(half_open_after_frames=60, half_open_s=20.0)
        async with FakeMoshiServer(plans=[plan]) as server:
            heard = await caption(MoshiServerBackend(url=server.url), LONG)
        heard.require_whole(LONG)
        assert heard.metrics is not None and heard.metrics.reconnects == 1

    async def test_a_server_that_dies_at_once_again_and_again(self) -> None:
        plans = [ConnectionPlan(cut_after_frames=n) for n in (40, 3, 0, 7)]
        async with FakeMoshiServer(plans=plans) as server:
            heard = await caption(MoshiServerBackend(url=server.url), LONG)
        heard.require_whole(LONG)

    async def test_a_deaf_model_is_restarted_and_hears_all(self) -> None:
        plan = ConnectionPlan(deaf_after_frames=60)
        async with FakeMoshiServer(plans=[plan]) as server:
            heard = await caption(MoshiServerBackend(url=server.url), LONG)
        heard.require_whole(LONG)
        assert heard.metrics is not None and heard.metrics.deaf_restarts == 1

    async def test_one_in_the_last_words(self) -> None:
        async with FakeMoshiServer() as server:
            heard = await caption(
                MoshiServerBackend(url=server.url),
                TWENTY,
                trouble=lambda: server.restart(down_s=25),
                trouble_at_s=TWENTY.duration_s - 0.3,
            )
        heard.require_whole(TWENTY)


class TestBeyond:
    @pytest.mark.parametrize("down_s", [38.7, 41.3, 45.0, 50.0])
    async def test_the_gap_is_where_the_lost_words_are(self, down_s: float) -> None:
        said = sentences(140)
        async with FakeMoshiServer() as server:
            heard = await caption(
                MoshiServerBackend(url=server.url),
                said,
                trouble=lambda: server.restart(down_s=down_s),
                trouble_at_s=5.0,
            )
        heard.require_order()
        (gap,) = heard.gaps
        # What a reader would do with it: take away the words inside. Neither bound
        # may be off by more than a frame.
        inside = [
            word
            for word in said.words
            if gap.start - 0.08 <= word.start and word.end <= gap.end + 0.08
        ]
        expected = [word.text for word in said.words if word not in inside]
        assert heard.text.split() == expected
        assert gap.start == pytest.approx(inside[0].start, abs=1.0)
        before = [word for word in said.words if word.end <= inside[0].start][-1]
        after = [word for word in said.words if word.start >= inside[-1].end][0]
        assert before.end - 0.08 <= gap.start <= inside[0].start + 0.08
        assert inside[-1].end - 0.08 <= gap.end <= after.start + 0.08
        assert gap.reason == "overflow"
        assert heard.metrics is not None
        assert heard.metrics.usage.gap_s == pytest.approx(gap.end - gap.start)


class TestColdStart:
    async def test_a_minute_of_speech_is_caught_up_with(self) -> None:
        said = sentences(140)
        plan = ConnectionPlan(accept_delay_s=60.0)
        async with FakeMoshiServer(speed=3.0, plans=[plan]) as server:
            backend = MoshiServerBackend(url=server.url, open_timeout_s=120.0)
            heard = await caption(backend, said)
        heard.require_whole(said)
        began = heard.times[0]
        ready = next(
            at
            for at, event in zip(heard.times, heard.events, strict=True)
            if getattr(event, "state", None) == "ready"
        )
        assert ready - began == pytest.approx(60, abs=1)
        last = [word for word in said.words if word.end < ready - began][-1]
        caught_up = next(
            at
            for at, event in zip(heard.times, heard.events, strict=True)
            if isinstance(event, Partial) and event.words[-1].start >= last.start - 0.25
        )
        assert caught_up - ready <= 20.0

    async def test_refusals_at_the_start_lose_nothing(self) -> None:
        plans = [ConnectionPlan(full=True)] * 12
        async with FakeMoshiServer(plans=plans) as server:
            heard = await caption(MoshiServerBackend(url=server.url), LONG)
        heard.require_whole(LONG)
        assert set(heard.states[1:-2]) == {"reconnecting"}


class TestMute:
    async def test_the_last_word_is_final_at_once(self) -> None:
        said = speak("alpha bravo charlie", tail_s=0.0)
        async with (
            FakeMoshiServer(speed=3.0) as server,
            open_session(
                MoshiServerBackend(url=server.url), options=patient()
            ) as session,
        ):
            began = anyio.current_time()
            for begin in range(0, len(said.samples), 480):
                await anyio.sleep_until(began + begin / 24_000)
                session.try_push(said.samples[begin : begin + 480])
            muted = anyio.current_time()
            assert await session.flush()
            assert anyio.current_time() - muted <= 0.4
            await session.end_input()
            events = [event async for event in session]
        (final,) = [event for event in events if isinstance(event, Final)]
        assert final.text == said.text
        assert final.reason is FinalReason.FLUSH

    @pytest.mark.parametrize(("tail_s", "patience_s"), [(0.0, 1.5), (0.3, 0.3)])
    async def test_it_is_noticed_without_being_told(
        self, tail_s: float, patience_s: float
    ) -> None:
        """Later in the middle of sound, where it may be the network that stalls."""
        said = speak("alpha bravo charlie", tail_s=tail_s)
        async with FakeMoshiServer(speed=3.0) as server:
            heard = await caption(
                MoshiServerBackend(url=server.url), said, silence_after_s=30.0
            )
        final_at = heard.times[heard.events.index(heard.finals[-1])]
        began = heard.times[0]
        assert heard.text == said.text
        assert final_at - began - said.duration_s <= 0.4 + patience_s

    async def test_a_silent_hour_costs_no_place(self) -> None:
        said = speak("alpha bravo charlie. delta echo", sentence_pause_s=200.0)
        async with FakeMoshiServer() as server:
            heard = await caption(MoshiServerBackend(url=server.url), said)
            frames = sum(one.frames for one in server.connections)
        heard.require_whole(said)
        assert "idle" in heard.states
        assert len(server.connections) == 2
        assert frames * 0.08 < 75
        assert not any(isinstance(event, Gap) for event in heard.events)

    async def test_a_muted_connection_is_kept_for_a_while(self) -> None:
        # No audio at all for 200 s: keepalives against the server's 120 s.
        async with (
            FakeMoshiServer() as server,
            open_session(
                MoshiServerBackend(url=server.url),
                options=patient(idle_release_s=None),
            ) as session,
        ):
            for text in ("alpha bravo", "charlie delta"):
                await session.push(speak(text).samples)
                assert await session.flush()
                await anyio.sleep(200)
            await session.end_input()
            events = [event async for event in session]
            assert len(server.connections) == 1
        texts = [event.text for event in events if isinstance(event, Final)]
        assert texts == ["alpha bravo", "charlie delta"]
