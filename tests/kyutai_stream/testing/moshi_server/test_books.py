"""What the server keeps, and how its context ends."""

from __future__ import annotations

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from kyutai_stream.testing import FakeMoshiServer
from kyutai_stream.testing.moshi_server import ConnectionPlan

from .raw_client import FRAMES, SPOKEN, client_of, say


class TestBooks:
    """What the server keeps accounts for every sample."""

    async def test_over_two_connections(self) -> None:
        plan = ConnectionPlan(cut_after_frames=20)
        async with FakeMoshiServer(plans=[plan], keep_audio=True) as server:
            async with client_of(server.url) as client:
                with pytest.raises(ConnectionClosed):
                    await say(client)
            async with client_of(server.url) as client:
                await client.send(*FRAMES[20:])
                await client.steps(len(FRAMES) - 20)
            one, two = server.connections
            padded = np.pad(SPOKEN.samples, (0, -len(SPOKEN.samples) % 1920))
            assert np.array_equal(np.concatenate((one.audio, two.audio)), padded)
            assert two.steps == two.frames == len(FRAMES) - 20
            assert [word.text for word in two.words] == client.words
            await server.wait_until(lambda: server.used_slots == 0)

    async def test_audio_is_kept_only_if_asked_for(self) -> None:
        async with FakeMoshiServer() as server, client_of(server.url):
            with pytest.raises(RuntimeError, match="keep_audio"):
                _ = server.connections[0].audio

    async def test_an_error_of_the_body_comes_out_as_it_is(self) -> None:
        with pytest.raises(KeyError):
            async with FakeMoshiServer() as server, client_of(server.url):
                raise KeyError("mine")

    async def test_waiting_is_bounded(self) -> None:
        async with FakeMoshiServer() as server:
            with pytest.raises(TimeoutError):
                await server.wait_until(lambda: False)
