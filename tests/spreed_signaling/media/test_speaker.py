"""A speaker's queue: bounded, and nothing is lost without a trace."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import numpy as np
import pytest

from spreed_signaling import Participant, UsageError
from spreed_signaling.media import SAMPLE_RATE, AudioChunk, Speaker

HALF_SECOND = SAMPLE_RATE // 2


class Feed:
    """A speaker that is fed by hand."""

    def __init__(self) -> None:
        self.listening = 0
        self.speaker = Speaker(
            Participant(session_id="alice", display_name="Alice"),
            lambda speaker: self._listen(1),
            lambda speaker: self._listen(-1),
        )
        self.position = 0

    def _listen(self, change: int) -> None:
        self.listening += change

    def put(self, number: int, *, gap: int = 0) -> None:
        start = self.position + gap
        self.position = start + HALF_SECOND
        self.speaker._put(
            AudioChunk(
                samples=np.full(HALF_SECOND, number, np.float32),
                media_time_s=start / SAMPLE_RATE,
                gap_samples=gap,
            )
        )


async def collect(feed: Feed) -> list[AudioChunk]:
    feed.speaker._end()
    with anyio.fail_after(5):
        return [chunk async for chunk in feed.speaker.audio()]


def assert_consistent(chunks: list[AudioChunk], start: int = 0) -> int:
    position = start
    for chunk in chunks:
        position += chunk.gap_samples
        assert round(chunk.media_time_s * SAMPLE_RATE) == position
        position += len(chunk.samples)
    return position


async def test_chunks_come_in_order_and_the_iteration_ends() -> None:
    feed = Feed()
    for number in range(3):
        feed.put(number)
    chunks = await collect(feed)
    assert [chunk.samples[0] for chunk in chunks] == [0, 1, 2]
    assert feed.listening == 0
    assert assert_consistent(chunks) == feed.position


async def test_a_slow_consumer_loses_the_oldest_and_sees_it_as_a_gap() -> None:
    feed = Feed()
    for number in range(30):
        feed.put(number, gap=100 if number == 3 else 0)
    chunks = await collect(feed)
    assert [chunk.samples[0] for chunk in chunks] == list(range(10, 30))
    assert chunks[0].gap_samples == 10 * HALF_SECOND + 100
    assert assert_consistent(chunks) == feed.position
    stats = feed.speaker.stats
    assert stats.dropped_s == 5.0 and stats.received_s == 15.0
    assert stats.gap_s == pytest.approx(100 / SAMPLE_RATE)


async def test_what_nobody_heard_between_two_consumers_is_a_gap() -> None:
    feed = Feed()
    async with aclosing(feed.speaker.audio()) as audio:
        feed.put(0)
        first = await anext(audio)
        feed.put(1)
        assert feed.listening == 1
    assert feed.listening == 0
    feed.put(2)
    # A chunk that waits when nobody listens is given to the next consumer.
    chunks = await collect(feed)
    assert [chunk.samples[0] for chunk in chunks] == [2]
    assert chunks[0].gap_samples == HALF_SECOND
    assert assert_consistent([first, *chunks]) == feed.position


async def test_another_format_goes_on_in_the_same_time() -> None:
    feed = Feed()
    async with aclosing(feed.speaker.audio()) as audio:
        feed.put(0)
        await anext(audio)
    feed.put(1)
    async with aclosing(feed.speaker.audio(sample_rate=48_000)) as audio:
        # At the new rate: what waited at the old one is missing.
        samples = np.zeros(960, np.float32)
        feed.speaker._put(
            AudioChunk(samples=samples, sample_rate=48_000, media_time_s=1.0)
        )
        chunk = await anext(audio)
    assert chunk.gap_samples == 48_000 // 2
    assert chunk.sample_rate == 48_000
    assert feed.speaker.stats.dropped_s == 0.5


async def test_one_consumer_at_a_time() -> None:
    feed = Feed()
    feed.put(0)
    async with aclosing(feed.speaker.audio()) as audio:
        await anext(audio)
        with pytest.raises(UsageError, match="consumer already"):
            await anext(feed.speaker.audio())
        assert feed.listening == 1


async def test_cancelling_ends_the_subscription() -> None:
    feed = Feed()
    with anyio.move_on_after(0.05):
        async for _ in feed.speaker.audio():
            raise AssertionError("nobody spoke")
    assert feed.listening == 0


def test_names_stay_out_of_logs() -> None:
    assert "Alice" not in repr(Feed().speaker)
    assert "array" not in repr(
        AudioChunk(samples=np.ones(3, np.float32), media_time_s=0.0)
    )
