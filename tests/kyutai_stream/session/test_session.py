"""What a session does while its connection holds: through the public API."""

from __future__ import annotations

import math

import anyio
import numpy as np
import pytest

from kyutai_stream import (
    AudioFormat,
    AudioFormatError,
    AuthError,
    Capabilities,
    ConfigError,
    Endpoint,
    Final,
    FinalReason,
    Gap,
    Partial,
    SessionOptions,
    SpeechStarted,
    Usage,
    open_session,
)
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord

from .scripted import AT_ONCE, FRAME, next_final, of, read, run, script, sound, states


class TestOneConnection:
    async def test_words_become_partials_and_a_final(self) -> None:
        events = await run(ScriptedBackend(script("good morning all")), 2.0)
        assert states(events) == ["connecting", "ready", "closed"]
        (final,) = of(Final, events)
        assert final.text == "good morning all"
        assert final.start == pytest.approx(0.5)
        assert final.end == pytest.approx(1.4)
        assert of(SpeechStarted, events) == [SpeechStarted(at=0.5)]
        for partial in of(Partial, events):
            assert final.text.startswith(partial.text)

    async def test_the_last_word_needs_no_more_audio_than_itself(self) -> None:
        # The session feeds the silence that the recogniser's delay asks for.
        backend = ScriptedBackend(script("bye"))
        events = await run(backend, 0.8)
        assert [final.text for final in of(Final, events)] == ["bye"]
        usage = of(Usage, events)[0]
        assert usage.audio_pushed_s == pytest.approx(0.8)
        assert usage.silence_s == pytest.approx(0.72)
        assert usage.audio_sent_s == pytest.approx(1.52)
        assert usage.audio_processed_s == pytest.approx(1.52)
        assert (usage.words, usage.connections, usage.gap_s) == (1, 1, 0.0)

    async def test_frames_are_exact_whatever_is_pushed(self) -> None:
        backend = ScriptedBackend()
        rng = np.random.default_rng(3)
        samples = rng.uniform(-0.5, 0.5, 10_000).astype(np.float32)
        async with open_session(backend) as session:
            for cut in np.split(samples, [1, 5, 4000, 4001, 9000]):
                await session.push(cut)
            await session.end_input()
            await read(session)
        frames = backend.connections[0].frames
        assert {frame.shape for frame in frames} == {(FRAME,)}
        assert np.array_equal(np.concatenate(frames)[:10_000], samples)
        assert not np.concatenate(frames)[10_000:].any()

    async def test_other_formats_are_converted(self) -> None:
        backend = ScriptedBackend()
        format = AudioFormat(sample_rate=48_000, channels=2, encoding="s16le")
        stereo = np.full((48_000, 2), 8192, dtype="<i2").tobytes()
        options = SessionOptions(input_format=format)
        async with open_session(backend, options=options) as session:
            await session.push(stereo)
            await session.end_input()
            events = await read(session)
        assert of(Usage, events)[0].audio_pushed_s == pytest.approx(1.0, abs=1e-3)
        heard = np.concatenate(backend.connections[0].frames)[1000:20_000]
        assert heard == pytest.approx(0.25, abs=1e-3)

    async def test_silence_ends_a_segment_by_itself(self) -> None:
        backend = ScriptedBackend(script("one"))
        async with open_session(backend) as session:
            await session.push(sound(4.0))
            final = await next_final(session)
            assert final.reason is FinalReason.SILENCE

    async def test_pause_heads_end_a_segment(self) -> None:
        pauses = dict.fromkeys(range(1, 40), (1.0,))
        backend = ScriptedBackend(
            script("one", pauses=pauses),
            capabilities=Capabilities(acks=True, pause_horizons_s=(2.0,)),
        )
        events = await run(backend, 2.0)
        assert of(Final, events)[0].reason is FinalReason.ENDPOINT
        assert of(Endpoint, events)[0].probability > 0.6

    async def test_without_acks_the_position_is_estimated(self) -> None:
        backend = ScriptedBackend(
            script("one"), capabilities=Capabilities(nominal_delay_s=0.48)
        )
        events = await run(backend, 4.0)
        assert of(Final, events)[0].reason is FinalReason.SILENCE
        assert of(Usage, events)[0].audio_processed_s == 0.0

    async def test_the_language_is_checked(self) -> None:
        backend = ScriptedBackend(capabilities=Capabilities(languages=("en", "fr")))
        with pytest.raises(ConfigError, match="'de'"):
            async with open_session(backend, language="de"):
                raise AssertionError("not reached")
        async with open_session(backend, language="fr", speaker="Ann") as session:
            await session.push(sound(0.1))
            await session.end_input()
            await read(session)
        assert backend.requests[0].language == "fr"
        assert "Ann" not in repr(backend.requests[0])

    async def test_a_name_will_do(self) -> None:
        async with open_session("activity") as session:
            assert session.backend_name == "activity"
            assert not session.capabilities.transcribes


class TestMediaTime:
    async def test_words_carry_the_callers_time(self) -> None:
        backend = ScriptedBackend(script("one"))
        async with open_session(backend) as session:
            await session.push(sound(2.0), media_time=100.0)
            await session.end_input()
            events = await read(session)
        assert of(Final, events)[0].start == pytest.approx(100.5)

    async def test_a_jump_feeds_silence_and_moves_the_time(self) -> None:
        words = (ScriptedWord(text="late", start=2.1, end=2.3),)
        backend = ScriptedBackend(ConnectionScript(words=words))
        async with open_session(backend) as session:
            await session.push(sound(1.0), media_time=0.0)
            await session.push(sound(1.0), media_time=31.0)
            await session.end_input()
            events = await read(session)
        # 1 s live + 1 s silence instead of 30, then the word 0.1 s later.
        assert of(Final, events)[0].start == pytest.approx(31.1)
        assert of(Gap, events) == []


class TestFlush:
    async def test_it_is_confirmed_and_makes_a_final(self) -> None:
        backend = ScriptedBackend(script("one two"))
        async with open_session(backend) as session:
            await session.push(sound(1.1))
            assert await session.flush()
            await session.end_input()
            events = await read(session)
        (final,) = of(Final, events)
        assert (final.text, final.reason) == ("one two", FinalReason.FLUSH)

    async def test_audio_may_follow(self) -> None:
        backend = ScriptedBackend(script("one two"))
        async with open_session(backend) as session:
            await session.push(sound(0.8))
            assert await session.flush()
            await session.push(sound(1.0))
            await session.end_input()
            events = await read(session)
        assert [final.text for final in of(Final, events)] == ["one", "two"]
        # The fed silence does not move the caller's time.
        starts = [final.start for final in of(Final, events)]
        assert starts == pytest.approx([0.5, 0.8])

    async def test_it_gives_up_in_time(self) -> None:
        backend = ScriptedBackend(script("", confirm_flush=False))
        async with open_session(backend) as session:
            await session.push(sound(0.1))
            assert not await session.flush(timeout_s=0.01)

    async def test_it_survives_a_lost_connection(self) -> None:
        backend = ScriptedBackend(script("", lose_after=3), script("one"))
        options = SessionOptions(retry=AT_ONCE)
        async with open_session(backend, options=options) as session:
            await session.push(sound(0.8))
            assert await session.flush(timeout_s=10)
            await session.end_input()
            events = await read(session)
        assert [final.text for final in of(Final, events)] == ["one"]

    async def test_it_is_released_when_the_session_fails(self) -> None:
        backend = ScriptedBackend(ConnectionScript(refuse=AuthError("no")))
        with pytest.raises(AuthError):
            async with open_session(backend) as session:
                await session.push(sound(0.2))
                with anyio.fail_after(5):
                    assert not await session.flush(timeout_s=60)

    async def test_after_the_end_there_is_nothing_to_flush(self) -> None:
        async with open_session(ScriptedBackend()) as session:
            await session.end_input()
            assert not await session.flush()

    async def test_a_stall_flushes_by_itself(self) -> None:
        backend = ScriptedBackend(script("one"))
        options = SessionOptions(stall_s=0.01)
        async with open_session(backend, options=options) as session:
            await session.push(sound(0.8))
            final = await next_final(session)
            assert final.reason is FinalReason.FLUSH
            assert len(backend.connections[0].flushes) == 1


class TestKeepalive:
    async def test_an_idle_connection_is_kept_alive(self) -> None:
        kept = anyio.Event()

        class Watched(ScriptedBackend):
            name = "watched"

        backend = Watched(capabilities=Capabilities(keepalive_interval_s=0.005))
        async with open_session(backend) as session:
            with anyio.fail_after(10):
                while not backend.connections or not backend.connections[0].keepalives:
                    with anyio.move_on_after(0.01):
                        await kept.wait()
            await session.end_input()
            await read(session)


class TestBackPressure:
    async def test_push_waits_and_try_push_does_not(self) -> None:
        backend = ScriptedBackend(ConnectionScript(stop_reading_after=2))
        options = SessionOptions(input_buffer_s=2.0, stall_s=math.inf)
        async with open_session(backend, options=options) as session:
            with anyio.move_on_after(0.2) as scope:
                await session.push(sound(60.0))
            assert scope.cancelled_caught
            waiting_s = session.metrics.waiting_s
            assert waiting_s == pytest.approx(2.0, abs=0.5)
            assert session.try_push(sound(0.5))
            assert session.metrics.waiting_s == pytest.approx(waiting_s + 0.5)

    async def test_the_oldest_audio_gives_way_with_a_gap(self) -> None:
        backend = ScriptedBackend(ConnectionScript(never_ready=True))
        options = SessionOptions(cold_start_s=4.0)
        async with open_session(backend, options=options) as session:
            assert session.try_push(sound(10.0), media_time=5.0)
            assert not session.try_push(sound(0.3))
            assert not session.try_push(sound(0.2))
            assert session.metrics.overflow_s == pytest.approx(0.5)
        backend = ScriptedBackend()
        async with open_session(
            backend, options=SessionOptions(cold_start_s=4.0)
        ) as session:
            assert session.try_push(sound(10.0), media_time=5.0)
            assert not session.try_push(sound(0.5))
            await session.end_input()
            events = await read(session)
        (gap,) = of(Gap, events)
        assert (gap.start, gap.end) == pytest.approx((5.0, 5.5))
        assert gap.reason == "overflow"
        assert of(Usage, events)[0].gap_s == pytest.approx(0.5)

    async def test_a_slow_reader_loses_no_final(self) -> None:
        text = " ".join(f"w{n}." for n in range(40))
        words = tuple(
            ScriptedWord(text=word, start=n * 1.0, end=n * 1.0 + 0.3)
            for n, word in enumerate(text.split())
        )
        backend = ScriptedBackend(ConnectionScript(words=words))
        events = await run(backend, 41.0, event_buffer=4, input_buffer_s=100)
        assert [final.text for final in of(Final, events)] == text.split()

    async def test_unread_partials_merge(self) -> None:
        text = " ".join(["word"] * 20)
        async with open_session(ScriptedBackend(script(text))) as session:
            await session.push(sound(7.5))
            assert await session.flush()
            await session.end_input()
            events = await read(session)
        assert len(of(Partial, events)) == 1
        assert of(Final, events)[0].text == text

    async def test_malformed_audio_is_refused_and_the_session_goes_on(self) -> None:
        async with open_session(ScriptedBackend()) as session:
            with pytest.raises(AudioFormatError):
                await session.push(np.array([math.nan], dtype=np.float32))
            with pytest.raises(AudioFormatError):
                session.try_push(b"abc")
            await session.push(sound(0.1))
            await session.end_input()
            await session.end_input()
            assert of(Usage, await read(session))[0].audio_pushed_s == 0.1
            with pytest.raises(ConfigError):
                await session.push(sound(0.1))

    async def test_one_reader_at_a_time(self) -> None:
        async with open_session(ScriptedBackend()) as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, session)
                await anyio.lowlevel.checkpoint()
                with pytest.raises(anyio.BusyResourceError):
                    await read(session)
                await session.end_input()
