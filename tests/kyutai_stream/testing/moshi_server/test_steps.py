"""Audio becomes steps; `Init` and `Marker` keep their place between them."""

from __future__ import annotations

import math

import anyio
import pytest

from kyutai_stream.testing import FakeMoshiServer

from .raw_client import FRAME, SILENCE, audio, client_of, feed, scripted


class TestSteps:
    async def test_one_for_each_frame_with_the_servers_own_count(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await feed(client, 5)
            steps = client.of("Step")
            # Two warm-up steps came before.
            assert [step["step_idx"] for step in steps] == [3, 4, 5, 6, 7]
            assert all(len(step["prs"]) == 4 for step in steps)
            assert all(0 <= p <= 1 for step in steps for p in step["prs"])
            assert {step["buffered_pcm"] for step in steps} == {0}

    async def test_they_are_shared_by_all_streams_but_masked(self) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url) as one, client_of(server.url) as two:
                await feed(one, 3)
                await feed(two, 2)
                await feed(one, 1)
            assert [step["step_idx"] for step in one.of("Step")] == [3, 4, 5, 8]
            assert [step["step_idx"] for step in two.of("Step")] == [6, 7]

    async def test_a_batch_makes_one_step(self) -> None:
        async with FakeMoshiServer(speed=1) as server:
            async with client_of(server.url) as one, client_of(server.url) as two:
                await one.send(*[SILENCE] * 10)
                await two.send(*[SILENCE] * 10)
                start = anyio.current_time()
                await one.steps(10)
                await two.steps(10)
                assert anyio.current_time() - start < 11 * 0.08 + 0.01
                assert server.total_steps <= 11

    @pytest.mark.parametrize(
        ("speed", "seconds"), [(0.5, 8.0), (1, 4.0), (3, 4 / 3), (math.inf, 0.0)]
    )
    async def test_speed(self, speed: float, seconds: float) -> None:
        async with FakeMoshiServer(speed=speed) as server:
            async with client_of(server.url) as client:
                start = anyio.current_time()
                await feed(client, 50)
                assert anyio.current_time() - start == pytest.approx(seconds, abs=0.03)

    async def test_speed_may_change(self) -> None:
        async with FakeMoshiServer(speed=1) as server:
            async with client_of(server.url) as client:
                await feed(client, 5)
                server.speed = 0.1
                start = anyio.current_time()
                await feed(client, 5)
                assert anyio.current_time() - start == pytest.approx(4.0, abs=0.03)
        with pytest.raises(ValueError, match="stall"):
            server.speed = 0

    async def test_long_messages_are_cut_into_frames(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await client.send(audio([0.0] * (4 * FRAME + 100)))
            await client.steps(4)
            buffered = [step["buffered_pcm"] for step in client.of("Step")]
            assert buffered == [3 * FRAME + 100, 2 * FRAME + 100, FRAME + 100, 100]

    async def test_short_messages_are_put_together(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await client.send(*[audio([0.0] * 480)] * 10)
            await client.steps(2)
            await client.send(audio([0.0] * 960))
            await client.steps(3)
            assert client.count("Step") == 3

    async def test_queued_messages_do_not_show_in_buffered_pcm(self) -> None:
        """The pitfall: exact frames wait in a queue that the field does not count."""
        async with FakeMoshiServer(speed=1) as server:
            async with client_of(server.url) as client:
                await feed(client, 60)
                assert {step["buffered_pcm"] for step in client.of("Step")} == {0}

    async def test_an_empty_audio_makes_no_step_but_drains_one(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await client.send(audio([]), audio([0.0] * 3 * FRAME), audio([]), audio([]))
            await client.steps(3)
            connection = server.connections[0]
            assert (connection.frames, connection.keepalives) == (1, 3)


class TestInit:
    async def test_it_resets_the_stream_and_loses_the_unfinished_word(self) -> None:
        listen = lambda: scripted(("lost", 0.0), ("said", 0.8))  # noqa: E731
        async with FakeMoshiServer(listen=listen) as server:
            async with client_of(server.url) as client:
                await feed(client, 7)
                await client.send({"type": "Init"}, *[SILENCE] * 20)
                assert await client.next() == {"type": "Ready"}
                await client.steps(27)
                # The script begins anew: times count from the reset.
                starts = [word["start_time"] for word in client.of("Word")]
                assert starts == pytest.approx([0.0, 0.8])
                assert client.words == ["lost", "said"]
                assert server.connections[0].resets == 1
                # The server's own count goes on.
                assert client.of("Step")[-1]["step_idx"] == 29

    async def test_it_is_ordered_with_audio(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await client.send(*[SILENCE] * 5, {"type": "Init"}, *[SILENCE] * 5)
            await client.steps(10)
            kinds = [message["type"] for message in client.log[1:]]
            assert kinds == ["Step"] * 5 + ["Ready"] + ["Step"] * 5

    async def test_buffered_samples_survive_it(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await client.send(audio([0.0] * 100), {"type": "Init"})
            await client.until(lambda m: m["type"] == "Ready")
            await client.send(audio([0.0] * 1820))
            await client.steps(1)


class TestMarker:
    async def test_alone_it_never_returns_without_audio(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await feed(client, 10)
            await client.send({"type": "Marker", "id": 7})
            with pytest.raises(TimeoutError):
                await client.next(timeout_s=9)
            assert server.connections[0].markers == [7]
            await feed(client, 5)
            assert client.count("Marker") == 0
            await client.send(SILENCE)
            assert (await client.until(lambda m: m["type"] == "Marker"))[-1]["id"] == 7

    async def test_with_other_traffic_it_returns_early(self) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url) as mine, client_of(server.url) as other:
                await mine.send({"type": "Marker", "id": 1})
                await feed(other, 8)
                await mine.until(lambda m: m["type"] == "Marker")
                assert mine.count("Step") == 0

    async def test_it_waits_for_what_is_buffered(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await client.send(audio([0.0] * 4 * FRAME), {"type": "Marker", "id": 2})
            await client.send(*[SILENCE] * 20)
            await client.until(lambda m: m["type"] == "Marker")
            # Three frames were left over when the Marker was taken; one was done,
            # and one more in the Marker's own place.
            assert 9 <= client.count("Step") <= 10
