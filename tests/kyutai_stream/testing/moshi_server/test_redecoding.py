"""Audio that is heard again, and heard differently."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kyutai_stream.testing import FakeMoshiServer, Redecoding, speak
from kyutai_stream.testing.moshi_server import Model

from .raw_client import FRAMES, SILENCE, SPOKEN, client_of, frames, say


class TestRedecoding:
    async def heard(self, server: FakeMoshiServer) -> tuple[list[str], list[float]]:
        async with client_of(server.url) as client:
            await say(client)
            starts = [word["start_time"] for word in client.of("Word")]
            return client.words, starts

    @pytest.mark.parametrize("seed", range(5))
    async def test_times_move_and_words_stay(self, seed: int) -> None:
        model = Model(redecoding=Redecoding(seed=seed, splits=False))
        async with FakeMoshiServer(model, speed=math.inf) as server:
            words, exact = await self.heard(server)
            assert words == SPOKEN.text.split()
            moved = []
            for _ in range(4):
                again, starts = await self.heard(server)
                assert again == words
                assert starts == sorted(set(starts))
                offsets = np.array(starts) - np.array(exact)
                assert np.abs(offsets).max() <= 0.161
                steps = np.array(starts) / 0.08
                assert np.allclose(steps, np.round(steps))
                moved.append(tuple(np.round(offsets, 2)))
            assert any(any(offset) for offset in moved)
            assert len(set(moved)) > 1

    async def test_close_words_may_come_as_one(self) -> None:
        redecoding = Redecoding(seed=3, split_probability=0.5)
        async with FakeMoshiServer(Model(redecoding=redecoding)) as server:
            assert (await self.heard(server))[0] == SPOKEN.text.split()
            several = 0
            for _ in range(6):
                words, _ = await self.heard(server)
                assert " ".join(words) == SPOKEN.text
                several += sum(" " in word for word in words)
            assert several > 3

    async def test_distant_words_and_the_last_one_never_wait(self) -> None:
        """Merging must not hold back a word that nothing follows."""
        redecoding = Redecoding(split_probability=1.0, time_s=0, exact_connections=0)
        spoken = speak("alpha. bravo charlie", tail_s=0.0)
        sent = [*frames(spoken.samples), *[SILENCE] * 9]
        async with FakeMoshiServer(Model(redecoding=redecoding)) as server:
            async with client_of(server.url) as client:
                await client.send(*sent)
                await client.steps(len(sent))
                assert client.words == ["alpha", "bravo charlie"]

    async def test_a_reset_stream_is_heard_differently_too(self) -> None:
        redecoding = Redecoding(seed=1, splits=False, exact_connections=1)
        async with FakeMoshiServer(Model(redecoding=redecoding)) as server:
            async with client_of(server.url) as client:
                await say(client)
                exact = [word["start_time"] for word in client.of("Word")]
                await client.send({"type": "Init"}, *FRAMES)
                await client.steps(2 * len(FRAMES))
                starts = [word["start_time"] for word in client.of("Word")]
                assert client.words == SPOKEN.text.split() * 2
                assert starts[: len(exact)] == exact
                assert starts[len(exact) :] != exact
