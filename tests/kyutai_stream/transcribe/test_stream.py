"""Audio from memory through a session: reading, leaving, errors."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt
import pytest

from kyutai_stream import (
    AudioFormatError,
    ConfigError,
    Final,
    ProtocolError,
    SessionEvent,
    SessionOptions,
)
from kyutai_stream.testing import ConnectionScript, ScriptedBackend
from kyutai_stream.transcribe import (
    transcribe,
    transcribe_sync,
)

from .sources import (
    endless_hum,
    everything,
    hum,
    scripted,
    seconds,
    text,
    usage,
)


class TestIterables:
    async def test_all_words_come_out_and_all_audio_went_in(self) -> None:
        backend = scripted()
        events = await everything(transcribe(seconds(2), backend=backend))
        assert text(events) == "one two three"
        assert usage(events).audio_pushed_s == pytest.approx(2.0)
        assert backend.open == 0

    async def test_a_reader_to_the_end_needs_no_block(self) -> None:
        backend = scripted()
        running = transcribe(seconds(2), backend=backend)
        events = [event async for event in running]
        assert text(events) == "one two three"
        assert backend.open == 0
        assert [event async for event in running] == []

    async def test_chunks_may_carry_media_time(self) -> None:
        async def late() -> AsyncIterator[tuple[npt.NDArray[np.float32], float]]:
            for n in range(20):
                yield hum(2400), 100.0 + n / 10

        events = await everything(transcribe(late(), backend=scripted()))
        (final,) = (event for event in events if isinstance(event, Final))
        assert final.start == pytest.approx(100.1, abs=0.02)

    async def test_no_more_is_asked_for_than_there_is_room(self) -> None:
        asked = 0

        async def endless() -> AsyncIterator[npt.NDArray[np.float32]]:
            nonlocal asked
            while True:
                asked += 1
                yield hum(2400)

        backend = scripted(stop_reading_after=1)
        options = SessionOptions(input_buffer_s=1.0, send_timeout_s=600.0)
        async with transcribe(endless(), backend=backend, options=options) as running:
            with anyio.move_on_after(0.5):
                async for _ in running:
                    pass
            assert 5 <= asked <= 40

    async def test_an_error_of_the_source_comes_after_what_was_heard(self) -> None:
        async def breaking() -> AsyncIterator[npt.NDArray[np.float32]]:
            async for chunk in seconds(2):
                yield chunk
            raise RuntimeError("the cable")

        events: list[SessionEvent] = []
        with pytest.raises(RuntimeError, match="the cable"):
            async with transcribe(breaking(), backend=scripted()) as running:
                async for event in running:
                    events.append(event)
        assert text(events) == "one two three"

    async def test_an_unseen_error_of_the_source_is_raised_on_leaving(self) -> None:
        failed = anyio.Event()

        async def breaking() -> AsyncIterator[npt.NDArray[np.float32]]:
            yield hum(2400)
            failed.set()
            raise RuntimeError("the cable")

        with pytest.raises(RuntimeError, match="the cable"):
            async with transcribe(breaking(), backend=scripted()):
                await failed.wait()
                await anyio.wait_all_tasks_blocked()

    async def test_wrong_audio_is_refused(self) -> None:
        async def doubles() -> AsyncIterator[Any]:
            yield np.zeros(10)

        with pytest.raises(AudioFormatError, match="float64"):
            await everything(transcribe(doubles(), backend=scripted()))

    async def test_a_failed_session_is_one_error(self) -> None:
        backend = ScriptedBackend(ConnectionScript(refuse=ProtocolError("gibberish")))
        with pytest.raises(ProtocolError, match="gibberish"):
            await everything(transcribe(seconds(60), backend=backend))

    async def test_an_unspoken_language_is_a_wrong_setting(self) -> None:
        pytest.importorskip("pocketsphinx")
        running = transcribe(seconds(1), backend="pocketsphinx", language="fr")
        with pytest.raises(ConfigError, match="does not speak 'fr', only en"):
            await everything(running)


class TestLeaving:
    async def test_the_block_closes_at_once(self) -> None:
        backend = scripted()
        async with transcribe(endless_hum(), backend=backend) as running:
            async for event in running:
                if isinstance(event, Final):
                    break
        assert backend.open == 0
        with pytest.raises(ConfigError, match="once only"):
            async with running:
                pass

    async def test_the_reader_error_comes_out_as_it_is(self) -> None:
        backend = scripted()
        with pytest.raises(ZeroDivisionError):
            async with transcribe(endless_hum(), backend=backend) as running:
                async for event in running:
                    if isinstance(event, Final):
                        _ = 1 / 0
        assert backend.open == 0

    @pytest.mark.parametrize("block", [True, False])
    async def test_cancelling_closes(self, block: bool) -> None:
        backend = scripted()
        running = transcribe(endless_hum(), backend=backend)
        with anyio.move_on_after(0.3) as scope:
            if block:
                await everything(running)
            else:
                async for _ in running:
                    pass
        assert scope.cancelled_caught
        assert backend.open == 0

    async def test_stopping_brings_the_last_words(self) -> None:
        backend = scripted()
        pushed = anyio.Event()

        async def waiting() -> AsyncIterator[npt.NDArray[np.float32]]:
            yield hum(20_000)
            pushed.set()
            await anyio.sleep_forever()

        async with transcribe(waiting(), backend=backend) as running:
            await pushed.wait()
            running.stop()
            with anyio.fail_after(5):
                events = [event async for event in running]
        assert text(events) == "one two three"[: len(text(events))] != ""
        running.stop()

    async def test_stopping_before_the_beginning_takes_nothing(self) -> None:
        running = transcribe(endless_hum(), backend=scripted())
        running.stop()
        assert usage(await everything(running)).audio_pushed_s == 0


class TestSync:
    def test_a_file(self, meeting_path: Path) -> None:
        events = list(transcribe_sync(meeting_path, backend=scripted()))
        assert text(events) == "one two three"

    def test_chunks(self) -> None:
        chunks = (hum(2400) for _ in range(20))
        assert text(list(transcribe_sync(chunks, backend=scripted()))) == (
            "one two three"
        )

    def test_leaving_early_leaves_nothing(self) -> None:
        backend = scripted()
        before = set(threading.enumerate())

        def endless() -> Iterator[npt.NDArray[np.float32]]:
            while True:
                yield hum(2400)

        with closing(transcribe_sync(endless(), backend=backend)) as events:
            for event in events:
                if isinstance(event, Final):
                    break
        assert backend.open == 0
        for thread in set(threading.enumerate()) - before:
            # It may be about to end.
            thread.join(timeout=5)
        assert set(threading.enumerate()) <= before

    def test_errors_come_out_as_they_are(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            list(transcribe_sync(tmp_path / "none.wav", backend=scripted()))
        refusing = ScriptedBackend(ConnectionScript(refuse=ProtocolError("gibberish")))
        chunks = (hum(2400) for _ in range(20))
        with pytest.raises(ProtocolError, match="gibberish"):
            list(transcribe_sync(chunks, backend=refusing))
