"""Handshakes, pages, bad messages and time limits, on real sockets."""

from __future__ import annotations

import json
import urllib.request

import anyio
import anyio.to_thread
import msgpack
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from kyutai_stream.testing import FakeMoshiServer
from kyutai_stream.testing.moshi_server import Model, Timers

from .raw_client import FRAME, SILENCE, audio, client_of, feed


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
