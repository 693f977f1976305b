from __future__ import annotations

import anyio

from kyutai_stream import Final, FinalReason, Partial
from kyutai_stream.session._outbox import Outbox
from kyutai_stream.session._signal import Signal


def partial(segment_id: int, text: str) -> Partial:
    return Partial(segment_id=segment_id, text=text, start=0.0)


def final(segment_id: int) -> Final:
    return Final(
        segment_id=segment_id, text="x", start=0.0, end=1.0, reason=FinalReason.END
    )


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


class TestSignal:
    async def test_a_notification_before_the_wait_is_not_missed(self) -> None:
        signal = Signal()
        signal.notify()
        signal.notify()
        with anyio.fail_after(1):
            await signal.wait()
        with anyio.move_on_after(0.01) as scope:
            await signal.wait()
        assert scope.cancelled_caught

    async def test_it_wakes_the_one_who_waits(self) -> None:
        signal = Signal()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(signal.wait)
            await anyio.lowlevel.checkpoint()
            signal.notify()
        with anyio.move_on_after(0.01) as scope:
            await signal.wait()
        assert scope.cancelled_caught

    async def test_a_wait_may_end_by_the_clock(self) -> None:
        with anyio.fail_after(1):
            await Signal().wait(until=anyio.current_time() + 0.001)
