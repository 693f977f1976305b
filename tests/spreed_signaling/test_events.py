"""The bounded stream of events."""

from __future__ import annotations

import anyio
import pytest

from spreed_signaling import CallEnded, EventsLagged
from spreed_signaling._events import EventStream


def event(number: int) -> CallEnded:
    return CallEnded(room_token=str(number))


async def test_events_come_in_order_and_end() -> None:
    with EventStream(8, lambda stream: None) as stream:
        for number in range(3):
            stream.put(event(number))
        stream.end()
        assert [one async for one in stream] == [event(0), event(1), event(2)]


async def test_a_slow_consumer_gets_what_was_queued_and_then_the_error() -> None:
    forgotten: list[EventStream] = []
    with EventStream(2, forgotten.append) as stream:
        for number in range(5):
            stream.put(event(number))
        assert forgotten == [stream]
        assert await anext(stream) == event(0)
        assert await anext(stream) == event(1)
        with pytest.raises(EventsLagged, match="2 waiting"):
            await anext(stream)


async def test_closing_from_elsewhere_ends_the_iteration() -> None:
    stream = EventStream(2, lambda stream: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            waiting = anyio.Event()

            async def consume() -> None:
                waiting.set()
                async for _ in stream:
                    raise AssertionError("nothing was put")

            tasks.start_soon(consume)
            await waiting.wait()
            stream.close()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_closed_stream_takes_events_without_complaint() -> None:
    stream = EventStream(2, lambda stream: None)
    stream.close()
    stream.put(event(1))


async def test_a_cancelled_consumer_loses_nothing() -> None:
    with EventStream(2, lambda stream: None) as stream:
        with anyio.move_on_after(0):
            await anext(stream)
        stream.put(event(1))
        assert await anext(stream) == event(1)
