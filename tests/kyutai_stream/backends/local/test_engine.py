"""The thread, the batch and the connections, with a stand-in for the model."""

import anyio
import numpy as np
import pytest

from kyutai_stream import Final, open_session
from kyutai_stream.backend import (
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Pause,
    Progress,
    Ready,
    WasReset,
    Word,
    WordEnd,
)
from kyutai_stream.backends.local._slot import INBOX_FRAMES, OUTBOX_EVENTS
from kyutai_stream.backends.local._words import END_OF_PADDING, PADDING
from kyutai_stream.core import FRAME_S
from kyutai_stream.errors import (
    AudioFormatError,
    CapacityError,
    ConfigError,
)
from kyutai_stream.testing import check_backend

from .stand_in import (
    SILENCE,
    UNSPEAKABLE,
    Bench,
    flushed,
    frame,
    say,
    speech,
    threads,
    until,
    words,
)


async def test_it_keeps_to_the_contract() -> None:
    samples = np.concatenate(speech("one two three four") * 4)
    await check_backend(Bench().backend, speech=samples)
    assert not threads()


async def test_words_ends_pauses_and_progress_of_each_step() -> None:
    async with Bench().open() as connection:
        await say(connection, [SILENCE, *speech("ab c")])
        events = await flushed(connection)
    assert isinstance(events[0], Ready)
    # Steps count from 2, the delay is 2 steps: frame n is at (n - 1) * 0.08 s.
    assert [e for e in events if isinstance(e, Word | WordEnd)] == [
        Word(index=0, text="ab", start=FRAME_S),
        WordEnd(index=0, end=4 * FRAME_S),
        Word(index=1, text="c", start=4 * FRAME_S),
    ]
    progress = [e.frames_processed for e in events if isinstance(e, Progress)]
    assert progress == list(range(1, 8))
    pauses = [e for e in events if isinstance(e, Pause)]
    assert len(pauses) == 7
    assert pauses[0].horizons_s == (0.5, 2.0)
    assert pauses[6].probabilities == pytest.approx((0.25, 0.07))
    # A word comes before the progress of the frame that completed it.
    kinds = [type(e).__name__ for e in events[-4:]]
    assert kinds == ["Word", "Pause", "Progress", "Flushed"]


async def test_ready_tells_what_the_model_can_do() -> None:
    bench = Bench(slots=3)
    assert bench.backend.capabilities.nominal_delay_s == pytest.approx(0.48)
    async with bench.open() as connection:
        (ready,) = await until(connection, lambda event: isinstance(event, Ready))
    assert isinstance(ready, Ready)
    capabilities = ready.capabilities
    assert capabilities.nominal_delay_s == pytest.approx(0.16)
    assert capabilities.pause_horizons_s == (0.5, 2.0)
    assert capabilities.max_sessions == 3


async def test_words_without_text_go_unsaid() -> None:
    async with Bench().open() as connection:
        await say(connection, [frame(PADDING), frame(END_OF_PADDING)])
        await say(connection, [frame(UNSPEAKABLE), *speech("a b")])
        events = await flushed(connection)
    said = [e for e in events if isinstance(e, Word | WordEnd)]
    assert [(type(e).__name__, e.index) for e in said] == [
        ("Word", 0),
        ("WordEnd", 0),
        ("Word", 1),
    ]
    assert words(events) == ["a", "b"]


async def test_speakers_share_the_model_and_nothing_else() -> None:
    bench = Bench()
    texts = ["aa bb cc dd ee", "vvv www xxx yyy zzz"]
    heard: dict[str, list[str]] = {}

    async def speak(text: str) -> None:
        async with bench.open() as connection:
            await say(connection, [SILENCE])
            await say(connection, speech(text))
            heard[text] = words(await flushed(connection))

    async with anyio.create_task_group() as tasks:
        for text in texts:
            tasks.start_soon(speak, text)
    assert heard == {text: text.split() for text in texts}
    assert bench.loads == 1
    (model,) = bench.models
    assert len(model.threads) == 1
    assert not threads()


async def test_frames_that_wait_are_heard_in_one_batch() -> None:
    bench = Bench()
    async with bench.open() as one, bench.open() as two:
        model = bench.models[0]
        model.go_on.clear()
        await one.send(SILENCE)
        await anyio.to_thread.run_sync(model.stepping.wait, 20)
        await one.send(SILENCE)
        await two.send(SILENCE)
        model.go_on.set()
        await flushed(one)
        await flushed(two)
        assert model.batches == [1, 2]


async def test_one_who_is_silent_does_not_move() -> None:
    bench = Bench()
    async with bench.open() as one, bench.open() as two:
        await say(two, [SILENCE] * 3)
        await flushed(two)
        await say(one, [SILENCE, *speech("hello")])
        await flushed(one)
        await say(two, speech("there"))
        events = await flushed(two, 2)
    (word,) = [event for event in events if isinstance(event, Word)]
    assert word == Word(index=0, text="there", start=3 * FRAME_S)


async def test_a_full_model_refuses_and_a_free_place_is_taken_again() -> None:
    bench = Bench(slots=1)
    async with bench.open():
        with pytest.raises(CapacityError, match="all 1 places"):
            async with bench.open():
                raise AssertionError("there is no place")
    async with bench.open() as connection:
        await say(connection, [SILENCE, *speech("again")])
        assert words(await flushed(connection)) == ["again"]
    assert bench.loads == 1


async def test_a_cancelled_speaker_frees_her_place_at_once() -> None:
    bench = Bench(slots=1)
    for _ in range(3):
        with anyio.CancelScope() as scope:
            async with bench.open() as connection:
                await say(connection, speech("some words")[:4])
                scope.cancel()
                await say(connection, [SILENCE] * 100)
    async with bench.open() as connection:
        # Nothing of those before: indexes, times and the model begin anew.
        await say(connection, [SILENCE, *speech("mine")])
        events = await flushed(connection)
    assert words(events) == ["mine"]
    assert bench.models[0].heard == [
        [PADDING, END_OF_PADDING, *(ord(x) - 87 for x in "mine"), PADDING]
    ]
    assert not threads()


async def test_a_place_is_free_while_the_model_is_still_busy_with_it() -> None:
    bench = Bench(slots=1)
    async with bench.open() as waiting:
        model = bench.models[0]
        model.go_on.clear()
        await waiting.send(frame(20))
        await anyio.to_thread.run_sync(model.stepping.wait, 20)
        engine = bench.backend._engine
        engine.release(waiting._slot)  # type: ignore[attr-defined] # as leaving does
        async with anyio.create_task_group() as tasks:

            async def next_speaker() -> None:
                async with bench.open() as connection:
                    await say(connection, [SILENCE, *speech("b")])
                    assert words(await flushed(connection)) == ["b"]

            tasks.start_soon(next_speaker)
            await anyio.lowlevel.checkpoint()
            model.go_on.set()
    assert not threads()


async def test_a_reset_begins_anew() -> None:
    async with Bench().open() as connection:
        await say(connection, [SILENCE, *speech("first on")[:-2]])
        await connection.reset()
        await say(connection, [SILENCE, *speech("second")])
        events = await flushed(connection)
    at = events.index(WasReset())
    assert words(events[:at]) == ["first"]
    # The unfinished word went with the reset.
    (word,) = [event for event in events[at:] if isinstance(event, Word)]
    assert word == Word(index=0, text="second", start=FRAME_S)
    progress = [e.frames_processed for e in events[at:] if isinstance(e, Progress)]
    assert progress == list(range(1, 10))


async def test_sending_waits_for_the_model() -> None:
    bench = Bench()
    async with bench.open() as connection:
        model = bench.models[0]
        model.go_on.clear()
        await connection.send(SILENCE)
        # One is in the model.
        await anyio.to_thread.run_sync(model.stepping.wait, 20)
        await say(connection, [SILENCE] * INBOX_FRAMES)
        sent = INBOX_FRAMES + 1
        with anyio.move_on_after(0.1) as scope:
            await connection.send(SILENCE)
        assert scope.cancelled_caught
        # A flush still finds room.
        await connection.request_flush(1)
        model.go_on.set()
        events = await until(connection, lambda event: isinstance(event, Flushed))
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[0] == Progress(frames_processed=1, lag_frames=INBOX_FRAMES)
    assert progress[-1] == Progress(frames_processed=sent, lag_frames=0)


async def test_the_model_waits_for_one_who_does_not_read_and_for_nobody_else() -> None:
    bench = Bench()
    async with bench.open() as deaf, bench.open() as other:
        sent = 0
        with anyio.move_on_after(0.5):
            while True:
                await deaf.send(SILENCE)
                sent += 1
        # Two events a frame, Ready, the inbox and one frame on its way.
        assert sent <= OUTBOX_EVENTS // 2 + INBOX_FRAMES + 1
        await say(other, [SILENCE, *speech("hello")])
        assert words(await flushed(other)) == ["hello"]
        # Reading alone lets the model go on, nothing more is sent.
        await until(
            deaf, lambda e: isinstance(e, Progress) and e.frames_processed == sent
        )


async def test_cancelling_a_wait_for_an_event_loses_none() -> None:
    async with Bench().open() as connection:
        events: list[ConnectionEvent] = []
        await say(connection, [SILENCE, *speech("abc def")])
        await connection.request_flush(1)
        while not (events and isinstance(events[-1], Flushed)):
            with anyio.move_on_after(0.0005):
                async for event in connection:
                    events.append(event)
                    if isinstance(event, Flushed):
                        break
    assert words(events) == ["abc", "def"]
    progress = [e.frames_processed for e in events if isinstance(e, Progress)]
    assert progress == list(range(1, 11))


async def test_languages_it_does_not_speak() -> None:
    backend = Bench().backend
    with pytest.raises(ConfigError, match="'de'"):
        async with backend.connect(ConnectRequest(language="de")):
            raise AssertionError("it does not speak German")


async def test_something_that_is_no_frame() -> None:
    async with Bench().open() as connection:
        with pytest.raises(AudioFormatError):
            await connection.send(SILENCE[:-1])
        await say(connection, [SILENCE, *speech("fine")])
        assert words(await flushed(connection)) == ["fine"]


async def test_a_session_on_it() -> None:
    bench = Bench()
    async with open_session(bench.backend, language="en") as session:
        await session.push(np.concatenate([SILENCE, *speech("good morning")]))
        await session.end_input()
        finals = [event.text async for event in session if isinstance(event, Final)]
    assert finals == ["good morning"]
    assert not threads()
