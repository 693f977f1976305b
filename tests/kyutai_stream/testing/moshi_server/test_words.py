"""When words and their ends come, with each module."""

from __future__ import annotations

import anyio
import pytest

from kyutai_stream.testing import FakeMoshiServer, speak
from kyutai_stream.testing.moshi_server import (
    STT_2_6B,
    STT_PYTHON,
    ConnectionPlan,
    Model,
)

from .raw_client import SILENCE, Client, client_of, feed, frames, scripted


class TestWords:
    async def test_the_word_comes_with_the_padding_after_its_pieces(self) -> None:
        """Measured on the real word machine with two pieces: steps 9, 10 and 13."""
        words = (("tokyo2", 0.0), ("london", 0.32))
        async with FakeMoshiServer(listen=lambda: scripted(*words)) as server:
            async with client_of(server.url) as client:
                await feed(client, 20)
                assert _at_step(client) == [
                    (9, "Word", 0.0),
                    (10, "EndWord", 0.32),
                    (13, "Word", 0.32),
                ]

    @pytest.mark.parametrize("start", [0.0, 0.08, 1.04, 2.0])
    @pytest.mark.parametrize("pieces", [1, 2, 4])
    async def test_it_comes_delay_and_pieces_after_its_start(
        self, start: float, pieces: int
    ) -> None:
        model = Model(pieces=lambda _: pieces)
        listen = lambda: scripted(("word", start))  # noqa: E731  # a factory
        async with FakeMoshiServer(model, listen=listen) as server:
            async with client_of(server.url) as client:
                await feed(client, 45)
                [(step, _, time)] = _at_step(client)
                assert step == round(start / 0.08) + 6 + pieces + 1
                assert time == pytest.approx(start)

    async def test_it_needs_further_audio(self) -> None:
        spoken = speak("alpha bravo", tail_s=0)
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await client.send(*frames(spoken.samples))
            with pytest.raises(TimeoutError):
                await client.until(lambda m: m.get("text") == "bravo", timeout_s=5)
            assert client.words == ["alpha"]
            await client.send(*[SILENCE] * 9)
            await client.until(lambda m: m.get("text") == "bravo")
            assert client.words == ["alpha", "bravo"]

    async def test_words_are_heard_in_the_audio(self) -> None:
        spoken = speak("alpha bravo. charlie delta echo. foxtrot", tail_s=1.0)
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            audio_frames = frames(spoken.samples)
            await client.send(*audio_frames)
            await client.steps(len(audio_frames))
            assert client.words == spoken.text.split()
            for message, word in zip(client.of("Word"), spoken.words, strict=True):
                assert -0.01 <= word.start - message["start_time"] < 0.09
            assert client.count("EndWord") == 5

    async def test_order_within_a_step(self) -> None:
        words = (("tokyo2", 0.0), ("london", 0.24))
        async with FakeMoshiServer(listen=lambda: scripted(*words)) as server:
            async with client_of(server.url) as client:
                await client.send(*[SILENCE] * 3)
                # Due three steps later, plus the delay of six.
                await client.send({"type": "Marker", "id": 5}, *[SILENCE] * 9)
                await client.steps(10)
                kinds = [message["type"] for message in client.log]
                ninth = [at for at, kind in enumerate(kinds) if kind == "Step"][8]
                assert kinds[ninth : ninth + 4] == [
                    "Step",
                    "Word",
                    "EndWord",
                    "Marker",
                ]

    async def test_pauses_are_told(self) -> None:
        spoken = speak("alpha bravo charlie delta echo foxtrot golf", tail_s=3)
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            audio_frames = frames(spoken.samples)
            await client.send(*audio_frames)
            await client.steps(len(audio_frames))
            two_seconds = [step["prs"][2] for step in client.of("Step")]
            assert max(two_seconds[15:28]) < 0.6
            assert two_seconds[-1] > 0.9
            # The shorter the horizon, the surer.
            last = client.of("Step")[-1]["prs"]
            assert last == sorted(last, reverse=True)


class TestOtherModels:
    async def test_without_heads_there_are_no_steps(self) -> None:
        spoken = speak("alpha bravo", tail_s=4)
        async with FakeMoshiServer(STT_2_6B) as server:
            async with client_of(server.url) as client:
                start = anyio.current_time()
                await client.send(*frames(spoken.samples))
                await client.until(lambda m: m.get("text") == "bravo")
                assert client.count("Step") == 0
                assert client.words == ["alpha", "bravo"]
                assert client.of("Word")[0]["start_time"] == 0.0
                # 32 steps of delay, at three times real time.
                assert anyio.current_time() - start > 32 * 0.08 / 3

    async def test_python_sends_steps_to_everybody(self) -> None:
        async with FakeMoshiServer(STT_PYTHON) as server:
            async with client_of(server.url) as one, client_of(server.url) as two:
                await feed(one, 4)
                await two.steps(4)
                assert [step["step_idx"] for step in two.of("Step")] == [0, 1, 2, 3]

    async def test_python_sends_both_ends_at_once_with_the_delay(self) -> None:
        listen = lambda: scripted(("tokyo2", 0.8))  # noqa: E731  # a factory
        async with FakeMoshiServer(STT_PYTHON, listen=listen) as server:
            async with client_of(server.url) as client:
                await feed(client, 30)
                [word], [end] = client.of("Word"), client.of("EndWord")
                at = client.log.index(word)
                assert client.log[at + 1] == end
                assert client.log[at + 2]["type"] == "Step"
                assert word["start_time"] == pytest.approx(0.8 + 7 * 0.08)
                assert end["stop_time"] == pytest.approx(0.8 + 9 * 0.08)

    async def test_python_ends_the_stream_after_a_marker(self) -> None:
        async with FakeMoshiServer(STT_PYTHON) as server:
            async with client_of(server.url) as client:
                await feed(client, 3)
                await client.send({"type": "Marker", "id": 9})
                assert await client.rest() == "none"
                assert client.log[-1] == {"type": "Marker", "id": 9}
            await server.wait_until(lambda: server.used_slots == 0)


async def test_the_first_word_may_be_empty_and_ends_late_or_missing() -> None:
    listen = lambda: scripted(("tokyo2", 0.8), ("london", 1.6))  # noqa: E731
    plans = [
        ConnectionPlan(empty_first_word=True),
        ConnectionPlan(end_words="missing"),
        ConnectionPlan(end_words="late"),
        ConnectionPlan(duplicate_words=(1,)),
    ]
    logs = []
    async with FakeMoshiServer(listen=listen, plans=plans) as server:
        for _ in plans:
            async with client_of(server.url) as client:
                await feed(client, 50)
                logs.append(client)
    empty, missing, late, doubled = logs
    assert empty.words == ["", "tokyo2", "london"]
    assert missing.count("EndWord") == 0
    assert [kind for _, kind, _ in _at_step(late)] == ["Word", "Word", "EndWord"]
    assert doubled.words == ["tokyo2", "london", "london"]


def _at_step(client: Client) -> list[tuple[int, str, float]]:
    """When words came: (steps so far, type, time)."""
    steps, out = 0, []
    for message in client.log:
        match message["type"]:
            case "Step":
                steps += 1
            case "Word":
                out.append((steps, "Word", message["start_time"]))
            case "EndWord":
                out.append((steps, "EndWord", pytest.approx(message["stop_time"])))
    return out
