"""Rates that libopus does not decode to: quality, borders, media time."""

from __future__ import annotations

import functools
import random

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from spreed_signaling import Participant
from spreed_signaling.media import AudioChunk, Speaker
from spreed_signaling.media.inlet import Inlet
from spreed_signaling.media.opus import open_decoder
from spreed_signaling.media.rates import RateConverter, inner_rate
from spreed_signaling.media.receiver import AudioReceiver

from .opus_streams import Floats, Stream, encode, voice


@functools.cache
def spoken() -> Stream:
    return encode(voice(4.0), bit_rate=32_000)


def offline(stream: Stream, up: int, down: int) -> Floats:
    """Everything decoded at once, resampled at once."""
    # Not a dependency of the library.
    signal = pytest.importorskip("scipy.signal")
    decoder = open_decoder(48_000)
    out = np.zeros(5_760, np.float32)
    whole = [out[: decoder.decode(payload, out)].copy() for payload in stream.payloads]
    resampled: Floats = signal.resample_poly(np.concatenate(whole), up, down)
    return resampled


async def listen(rate: int, frame_ms: float, lost: frozenset[int]) -> list[AudioChunk]:
    speaker = Speaker(
        Participant(session_id="alice", display_name="Alice"),
        lambda speaker: None,
        lambda speaker: None,
    )
    chunks: list[AudioChunk] = []

    async def consume() -> None:
        async for chunk in speaker.audio(sample_rate=rate, frame_ms=frame_ms):
            chunks.append(chunk)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await anyio.lowlevel.checkpoint()
        inlet = Inlet(speaker._receiver, lambda now: None)
        for index in range(199):
            if index not in lost:
                inlet.take(spoken().packet(index))
        inlet.close()
        speaker._end()
    return chunks


def check(chunks: list[AudioChunk]) -> int:
    """Samples and gaps are media time; returns where it ends."""
    position = 0
    for chunk in chunks:
        assert chunk.gap_samples >= 0
        position += chunk.gap_samples
        assert round(chunk.media_time_s * chunk.sample_rate) == position
        position += len(chunk.samples)
    return position


@pytest.mark.parametrize(
    ("rate", "up", "down"),
    [(44_100, 147, 160), (22_050, 147, 320), (32_000, 2, 3), (11_025, 147, 640)],
)
async def test_it_sounds_like_an_offline_conversion(
    rate: int, up: int, down: int
) -> None:
    chunks = await listen(rate, 80, frozenset())
    frame = rate * 80 // 1000
    assert [len(chunk.samples) for chunk in chunks[:-1]] == [frame] * 49
    assert {chunk.sample_rate for chunk in chunks} == {rate}
    assert check(chunks) == 199 * rate // 50
    heard = np.concatenate([chunk.samples for chunk in chunks])[18:]
    wanted = offline(spoken(), up, down)[: len(heard)]
    # Not the first moments, where the two filters begin in different ways.
    noise = (heard - wanted)[500:]
    snr = 10 * np.log10(np.sum(wanted[500:] ** 2) / np.sum(noise**2))
    assert snr >= 50, snr


async def test_holes_keep_media_time() -> None:
    lost = frozenset(range(50, 70)) | {100}
    chunks = await listen(44_100, 20, lost)
    assert check(chunks) == 199 * 882
    assert sum(chunk.concealed_ms for chunk in chunks) >= 100
    assert any(chunk.gap_samples for chunk in chunks)


@pytest.mark.parametrize("rate", [4_000, 11_025, 22_050, 44_100, 96_000])
def test_any_chunks_keep_media_time(rate: int) -> None:
    rng = random.Random(rate)
    converter, chunks = RateConverter(rate), list[AudioChunk]()

    def take(chunk: AudioChunk) -> None:
        if (converted := converter.convert(chunk)) is not None:
            chunks.append(converted)

    size = rng.choice([100, 480, 3_840])
    receiver = AudioReceiver(take, sample_rate=48_000, frame_samples=size)
    length = 0
    for _ in range(60):
        count, gap = rng.randrange(1, 2_000), rng.choice([0, 0, 0, 7, 5_000])
        samples = np.zeros(count, np.float32)
        given = AudioChunk(
            samples=samples, sample_rate=48_000, media_time_s=0.0, gap_samples=gap
        )
        receiver.add_decoded(given, 0.0)
        length += count + gap
    receiver.finish(0.0)
    assert check(chunks) == length * rate // 48_000


def test_which_rate_is_decoded() -> None:
    assert [inner_rate(rate) for rate in (8_000, 24_000, 48_000)] == [
        8_000,
        24_000,
        48_000,
    ]
    assert inner_rate(44_100) == inner_rate(192_000) == 48_000
    for rate in (0, -1, 3_999, 192_001):
        with pytest.raises(ValueError, match="sample_rate"):
            inner_rate(rate)
