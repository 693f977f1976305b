"""The protocol as the reference tells it, over real sockets in virtual time."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Sequence

import anyio
import anyio.to_thread
import msgpack
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from kyutai_stream.testing import FakeMoshiServer, HeardWord, speak
from kyutai_stream.testing.moshi_server import (
    STT_2_6B,
    STT_PYTHON,
    ConnectionPlan,
    Model,
    ScriptedRecogniser,
    Timers,
)

from .raw_client import FRAME, SILENCE, Client, audio, client_of, frames


def scripted(*words: tuple[str, float]) -> ScriptedRecogniser:
    said = [HeardWord(text=text, start=at, end=at + 0.2) for text, at in words]
    return ScriptedRecogniser(said)


async def feed(client: Client, count: int) -> Sequence[dict[str, object]]:
    """So many frames of silence, and all that comes back for them."""
    wanted = client.count("Step") + count
    await client.send(*[SILENCE] * count)
    return await client.steps(wanted)


class TestTransport:
    async def test_ready_comes_first_and_slots_are_freed(self) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url):
                assert server.used_slots == 1
            await server.wait_until(lambda: server.used_slots == 0)
            [connection] = server.connections
            await server.wait_until(lambda: not connection.open)
            assert connection.end == "closed by the client"
            assert connection.close_code == 1000

    @pytest.mark.parametrize("key", [None, "wrong"])
    async def test_a_bad_key_is_401(self, key: str | None) -> None:
        async with FakeMoshiServer() as server:
            with pytest.raises(InvalidStatus) as caught:
                async with client_of(server.url, key=key):
                    pass
            assert caught.value.response.status_code == 401
            assert (server.refused, server.connections) == (1, [])

    async def test_the_key_may_come_in_the_query_but_the_header_wins(self) -> None:
        async with FakeMoshiServer() as server:
            url = f"{server.url}?auth_id=public_token"
            async with client_of(url, key=None):
                pass
            with pytest.raises(InvalidStatus):
                async with client_of(url, key="wrong"):
                    pass

    async def test_another_path_is_404(self) -> None:
        async with FakeMoshiServer() as server:
            with pytest.raises(InvalidStatus) as caught:
                async with client_of(f"{server.url}s"):
                    pass
            assert caught.value.response.status_code == 404

    async def test_full(self) -> None:
        async with FakeMoshiServer(Model(batch_size=1)) as server:
            async with client_of(server.url):
                async with client_of(server.url, ready=False) as second:
                    assert await second.rest() == "1005"
                    assert second.log == [
                        {"type": "Error", "message": "no free channels"}
                    ]
            await server.wait_until(lambda: server.used_slots == 0)
            async with client_of(server.url):
                pass
            assert [one.slot for one in server.connections] == [0, None, 0]

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"\xc1",
            b"EOS",
            msgpack.packb(["Init"]),
            msgpack.packb({"type": "Unheard"}),
            msgpack.packb({"type": "Audio"}),
            msgpack.packb({"type": "Audio", "pcm": "abc"}),
            msgpack.packb({"type": "Audio", "pcm": [0.0, "x"]}),
            msgpack.packb({"type": "OggOpus", "data": b"bin"}),
            msgpack.packb({"type": "Marker", "id": 1.5}),
        ],
    )
    async def test_a_bad_message_drops_the_connection(self, message: bytes) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url) as client:
                await client.send(message)
                assert await client.rest() == "none"
            await server.wait_until(lambda: server.used_slots == 0)
            assert server.connections[0].bad_messages == 1

    async def test_text_is_ignored_and_so_are_unknown_fields(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await client.socket.send("hello")
            await client.send({"type": "Init", "future": [1, 2]})
            assert await client.next() == {"type": "Ready"}

    async def test_doubles_and_integers_are_samples_too(self) -> None:
        async with FakeMoshiServer(keep_audio=True) as server:
            async with client_of(server.url) as client:
                await client.send({"type": "Audio", "pcm": [0.5, 1, -1.0]})
                await client.send(audio([0.25] * FRAME))
                await client.steps(1)
            kept = server.connections[0].audio
            assert kept.dtype == np.float32
            assert kept[:4].tolist() == [0.5, 1.0, -1.0, 0.25]
            assert len(kept) == server.connections[0].samples == FRAME + 3

    async def test_pages(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            await feed(client, 3)

            async def page(path: str) -> str:
                def load() -> str:
                    with urllib.request.urlopen(server.http_url + path) as answer:
                        return str(answer.read().decode())

                # The clock stands still while the thread waits for our answer.
                return await anyio.to_thread.run_sync(load)

            [module] = json.loads(await page("/api/modules_info"))
            assert module["type"] == "batched_asr"
            assert module["path"] == "/api/asr-streaming"
            assert (module["used_slots"], module["total_slots"]) == ("1", "8")
            assert "git_hash" in json.loads(await page("/api/build_info"))
            metrics = await page("/metrics")
            assert 'asr_connect{handler="all"} 1\n' in metrics
            assert 'asr_open_channels{handler="all"} 1\n' in metrics
            assert 'asr_model_step_duration_bucket{le="0.03"} 3\n' in metrics
            assert "asr_model_step_duration_count 3\n" in metrics


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


class TestTimers:
    async def test_a_ping_after_ten_seconds_without_output(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url):
            await anyio.sleep(100)
            # Pongs keep the connection.
            assert server.connections[0].open

    async def test_a_silent_client_is_dropped_after_twenty(self) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url) as client:
                client.socket.transport.pause_reading()
                await anyio.sleep(19)
                assert server.connections[0].open
                await server.wait_until(lambda: server.used_slots == 0)
                assert server.connections[0].end == "silent for too long"
                client.socket.transport.resume_reading()
                assert await client.rest() == "none"

    async def test_no_binary_for_two_minutes_drops_even_by_audio(self) -> None:
        async with FakeMoshiServer() as server:
            async with client_of(server.url) as client:
                await feed(client, 1)
                await anyio.sleep(119)
                await feed(client, 1)
                # Pings and pongs go to and fro, the last one before 120 s.
                await anyio.sleep(115)
                assert server.connections[0].open
                await anyio.sleep(20)
                assert await client.rest() == "none"
            [connection] = server.connections
            assert connection.end == "no binary message for too long"
            assert connection.frames == 2
            await server.wait_until(lambda: server.used_slots == 0)

    async def test_the_frame_that_ends_it_may_be_audio(self) -> None:
        timers = Timers(ping_s=500, silent_s=1000)
        async with FakeMoshiServer(timers=timers) as server:
            async with client_of(server.url) as client:
                await feed(client, 1)
                await anyio.sleep(121)
                await client.send(SILENCE)
                assert await client.rest() == "none"
            assert server.connections[0].frames == 1

    async def test_an_empty_audio_is_a_keepalive(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url) as client:
            for _ in range(10):
                await anyio.sleep(60)
                await client.send(audio([]))
            await feed(client, 1)
            assert server.connections[0].keepalives == 10
            assert server.total_steps == 1

    async def test_they_can_be_scaled(self) -> None:
        timers = Timers().scaled(0.1)
        async with FakeMoshiServer(timers=timers) as server:
            async with client_of(server.url) as client:
                start = anyio.current_time()
                assert await client.rest() == "none"
                assert 12 < anyio.current_time() - start < 13.5


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
