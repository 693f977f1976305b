"""What moshi-server 0.6.4 does on the wire, seen without our own client."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kyutai_stream.testing.real import ExpectedWord, RealMoshiServer
from kyutai_stream.testing.real.raw import RawStream, open_raw
from kyutai_stream.testing.tones import speak

pytestmark = [pytest.mark.moshi, pytest.mark.timeout(180)]

DELAY = 6
Samples = npt.NDArray[np.float32]


def silence(frames: int) -> Samples:
    return np.zeros(1920 * frames, np.float32)


def speech(text: str, *, lead_s: float = 0.03) -> Samples:
    """Spoken words, and enough silence to bring the last one out; whole frames."""
    spoken = speak(text, lead_s=lead_s).samples
    return np.concatenate((spoken, np.zeros(-len(spoken) % 1920 + 1920 * 10, "f4")))


def words(stream: RawStream) -> list[str]:
    return [said.text for said in stream.said if isinstance(said, ExpectedWord)]


def of_kind(stream: RawStream, kind: str) -> list[dict[str, object]]:
    return [message for message in stream.messages if message["type"] == kind]


async def test_ready_comes_without_init_and_each_frame_is_one_step(
    scripted: RealMoshiServer,
) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await stream.audio(silence(12))
        await stream.until_steps(12)
    assert stream.messages[0] == {"type": "Ready"}
    steps = of_kind(stream, "Step")
    # The server warms up with two steps of its own, which count.
    assert [step["step_idx"] for step in steps] == list(range(3, 15))
    assert all(step["buffered_pcm"] == 0 for step in steps)
    assert steps[0]["prs"] == pytest.approx([0.95, 0.85, 0.75, 0.65], abs=1e-4)


async def test_words_come_at_the_predicted_steps(scripted: RealMoshiServer) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await stream.audio(silence(60))
        await stream.until_steps(60)
    assert stream.said == scripted.expect(steps=60)
    assert stream.said[0] == ExpectedWord(step=9, text="bravo", start=0.0)


async def test_the_model_hears_what_was_said(listening: RealMoshiServer) -> None:
    text = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo"
    samples = speech(text)
    async with open_raw(listening.url, listening.api_key) as stream:
        await stream.audio(samples)
        await stream.until_steps(len(samples) // 1920)
    assert words(stream) == text.split()
    assert stream.said == listening.expect(samples)
    starts = [said.start for said in stream.said if isinstance(said, ExpectedWord)]
    spoken = [word.start for word in speak(text, lead_s=0.03).words]
    assert starts == pytest.approx(spoken, abs=0.08)


async def test_streams_do_not_hear_each_other(listening: RealMoshiServer) -> None:
    first, second = speech("alpha bravo charlie"), speech("zulu yankee xray")
    url, key = listening.url, listening.api_key
    async with open_raw(url, key) as one, open_raw(url, key) as two:
        await one.audio(first)
        await two.audio(second)
        await one.until_steps(len(first) // 1920)
        await two.until_steps(len(second) // 1920)
    assert words(one) == ["alpha", "bravo", "charlie"]
    assert words(two) == ["zulu", "yankee", "xray"]


async def test_steps_are_only_for_the_stream_that_sent_audio(
    scripted: RealMoshiServer,
) -> None:
    url, key = scripted.url, scripted.api_key
    async with open_raw(url, key) as idle, open_raw(url, key) as busy:
        await busy.audio(silence(8))
        await busy.until_steps(8)
        await idle.drain()
        await idle.audio(silence(2))
        await idle.until_steps(2)
    assert idle.steps == 2
    # The number is the server's, not the stream's.
    assert [step["step_idx"] for step in of_kind(idle, "Step")] == [11, 12]


@pytest.mark.parametrize("chunk", [480, 1000, 1920, 5000])
async def test_any_chunking_gives_the_same(
    scripted: RealMoshiServer, chunk: int
) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await stream.audio(silence(20), chunk=chunk)
        await stream.until_steps(20)
    assert stream.said == scripted.expect(steps=20)


async def test_buffered_pcm_counts_what_was_taken_from_the_queue(
    scripted: RealMoshiServer,
) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await stream.audio(silence(4)[: 3 * 1920 + 100], chunk=99_999)
        await stream.until_steps(3)
        steps = of_kind(stream, "Step")
        assert [step["buffered_pcm"] for step in steps] == [3940, 2020, 100]
        # The rest waits for more.
        await stream.audio(silence(1)[:1820])
        await stream.until_steps(4)
        assert of_kind(stream, "Step")[-1]["buffered_pcm"] == 0
        # Messages still in the queue are not counted: a late server looks idle.
        await stream.audio(silence(10))
        await stream.until_steps(14)
        assert {step["buffered_pcm"] for step in of_kind(stream, "Step")[4:]} == {0}


async def test_empty_audio_is_taken_and_costs_no_step(
    scripted: RealMoshiServer,
) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        for _ in range(5):
            await stream.send("Audio", pcm=[])
        await stream.audio(silence(1))
        await stream.until_steps(1)
        assert stream.steps == 1


async def test_a_marker_alone_waits_for_further_audio(
    scripted: RealMoshiServer,
) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await stream.audio(silence(4))
        await stream.send("Marker", id=-7)
        await stream.until_steps(4, quiet_s=1.0)
        assert not of_kind(stream, "Marker")
        await stream.audio(silence(9))
        await stream.until("Marker")
        assert stream.messages[-1] == {"type": "Marker", "id": -7}
        # Due the delay after what was sent before it; last of all in its step.
        assert stream.steps == 4 + DELAY
        await stream.until_steps(13)


async def test_a_marker_returns_early_when_others_speak(
    scripted: RealMoshiServer,
) -> None:
    url, key = scripted.url, scripted.api_key
    async with open_raw(url, key) as quiet, open_raw(url, key) as busy:
        await quiet.send("Marker", id=1)
        await busy.audio(silence(10))
        await quiet.until("Marker")
        assert quiet.steps == 0
        await busy.until_steps(10)


async def test_init_starts_the_stream_anew(listening: RealMoshiServer) -> None:
    first, second = speech("alpha bravo"), speech("charlie delta")
    async with open_raw(listening.url, listening.api_key) as stream:
        await stream.audio(first[: 1920 * 5])
        # In order with the audio around it; the half-heard word is lost.
        await stream.send("Init")
        await stream.audio(second)
        await stream.until("Ready")
        await stream.until_steps(len(second) // 1920)
    assert stream.said == listening.expect(second)
    assert len(of_kind(stream, "Ready")) == 2


async def test_init_keeps_samples_and_markers(scripted: RealMoshiServer) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await stream.audio(silence(1)[:1000])
        await stream.send("Marker", id=3)
        await stream.send("Init")
        await stream.until("Ready")
        await stream.audio(silence(1)[:920])
        await stream.until_steps(1)
        await stream.audio(silence(9))
        await stream.until("Marker")
        await stream.until_steps(10)


async def test_a_full_server_says_so_and_closes(scripted: RealMoshiServer) -> None:
    url, key = scripted.url, scripted.api_key
    async with open_raw(url, key), open_raw(url, key):
        assert await scripted.used_slots() == 2
        async with open_raw(url, key, ready=False) as third:
            error = {"type": "Error", "message": "no free channels"}
            assert await third.next() == error
            with pytest.raises(ConnectionClosed) as closed:
                await third.next()
        # A proper Close, but without a code.
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1005
    await scripted.wait_used_slots(0, 5.0)


async def test_slots_get_free(scripted: RealMoshiServer) -> None:
    url, key = scripted.url, scripted.api_key
    async with open_raw(url, key) as polite:
        await polite.audio(silence(1))
    await scripted.wait_used_slots(0, 5.0)
    async with open_raw(url, key) as rude:
        await rude.audio(silence(1))
        rude.socket.transport.abort()
    await scripted.wait_used_slots(0, 5.0)
    async with open_raw(url, key) as backlog:
        await backlog.audio(silence(60))
    # Nobody is left to hear the answers, so the server drops the backlog.
    await scripted.wait_used_slots(0, 5.0)


@pytest.mark.parametrize("key", [None, "wrong"])
async def test_a_wrong_key_is_refused_at_the_upgrade(
    scripted: RealMoshiServer, key: str | None
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with open_raw(scripted.url, key):
            pass
    assert refused.value.response.status_code == 401
    assert await scripted.used_slots() == 0


async def test_the_key_may_be_in_the_query_but_the_header_wins(
    scripted: RealMoshiServer,
) -> None:
    url = f"{scripted.url}?auth_id={scripted.api_key}"
    async with open_raw(url, None) as stream:
        assert stream.messages == [{"type": "Ready"}]
    with pytest.raises(InvalidStatus):
        async with open_raw(url, "wrong"):
            pass


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa4type\xa4Nope"])
async def test_what_it_cannot_read_drops_the_connection(
    scripted: RealMoshiServer, data: bytes
) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await stream.socket.send(data)
        with pytest.raises(ConnectionClosed) as closed:
            await stream.next(10.0)
    assert closed.value.rcvd is None  # not even a Close
    await scripted.wait_used_slots(0, 5.0)


async def test_text_is_ignored_and_pings_are_answered(
    scripted: RealMoshiServer,
) -> None:
    async with open_raw(scripted.url, scripted.api_key) as stream:
        await stream.socket.send("hello")
        await (await stream.socket.ping())
        await stream.audio(silence(1))
        await stream.until_steps(1)


async def test_without_extra_heads_there_are_words_but_no_steps(
    moshi_ready: None,
) -> None:
    async with RealMoshiServer(model="script", extra_heads=False) as server:
        async with open_raw(server.url, server.api_key) as stream:
            await stream.audio(silence(20))
            await stream.until("EndWord")
            await stream.until("EndWord")
            assert words(stream)[:2] == ["bravo", "charlie"]
            assert not of_kind(stream, "Step")


async def test_one_nan_makes_a_slot_deaf_for_everybody_after(
    listening: RealMoshiServer,
) -> None:
    """Why no sample may go out unchecked; neither Init nor a new client helps."""
    bad = silence(2)
    bad[1920] = np.nan
    samples = speech("alpha bravo charlie")
    url, key = listening.url, listening.api_key
    async with open_raw(url, key) as stream:
        await stream.audio(bad)
        await stream.until_steps(2)
    await listening.wait_used_slots(0)
    async with open_raw(url, key) as deaf, open_raw(url, key) as other:
        for stream in (deaf, other):
            await stream.audio(samples)
        for stream in (deaf, other):
            await stream.until_steps(len(samples) // 1920)
        assert words(deaf) == []
        assert words(other) == ["alpha", "bravo", "charlie"]
