from __future__ import annotations

import anyio
import numpy as np

from kyutai_stream import Final, FinalReason, Partial
from kyutai_stream.session._inbox import EndMark, FlushMark, Inbox
from kyutai_stream.session._machine import Chunk
from kyutai_stream.session._outbox import Outbox


def chunk(seconds: float) -> Chunk:
    samples = np.zeros(round(seconds * 24_000), dtype=np.float32)
    return Chunk(samples=samples, media_time=0.0)


def partial(segment_id: int, text: str) -> Partial:
    return Partial(segment_id=segment_id, text=text, start=0.0)


def final(segment_id: int) -> Final:
    return Final(
        segment_id=segment_id, text="x", start=0.0, end=1.0, reason=FinalReason.END
    )


class TestInbox:
    async def test_it_is_full_by_seconds_of_audio(self) -> None:
        inbox = Inbox(1.0)
        inbox.put(chunk(0.6))
        assert inbox.has_room(0.4) and not inbox.has_room(0.5)
        inbox.put(FlushMark())
        assert inbox.held_s == 0.6
        assert isinstance(await inbox.get(), Chunk)
        assert inbox.held_s == 0.0

    async def test_anything_fits_into_an_empty_one(self) -> None:
        assert Inbox(1.0).has_room(99.0)

    async def test_closing_wakes_everybody_and_returns_the_audio(self) -> None:
        inbox = Inbox(1.0)
        mark = FlushMark()
        left = chunk(1.0)
        for item in (left, mark, EndMark()):
            inbox.put(item)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inbox.wait_for_room, 1.0)
            await anyio.lowlevel.checkpoint()
            assert inbox.close() == [left]
        assert mark.done.is_set() and not mark.confirmed
        await inbox.wait_for_room(99.0)


class TestOutbox:
    async def test_only_the_newest_partial_of_a_segment_waits(self) -> None:
        outbox = Outbox(10)
        outbox.put(partial(0, "a"))
        outbox.put(final(7))
        outbox.put(partial(1, "c"))
        outbox.put(partial(0, "a b"))
        assert await outbox.get() == partial(0, "a b")
        assert await outbox.get() == final(7)
        assert await outbox.get() == partial(1, "c")
        outbox.close()
        assert await outbox.get() is None

    async def test_writers_wait_for_the_reader(self) -> None:
        outbox = Outbox(2)
        outbox.put(final(0))
        await outbox.wait_for_room()
        outbox.put(final(1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outbox.wait_for_room)
            await anyio.lowlevel.checkpoint()
            await outbox.get()
