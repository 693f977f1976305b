from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from kyutai_stream import Endpoint, Final, SpeechStarted, open_session
from kyutai_stream.backend import ConnectRequest, WasReset
from kyutai_stream.backends.activity import DEFAULT_CAPTION, ActivityBackend
from kyutai_stream.core import Framer
from kyutai_stream.testing import check_backend

Samples = npt.NDArray[np.float32]


async def test_it_keeps_to_the_contract(burst: Samples) -> None:
    await check_backend(ActivityBackend(), speech=burst)


async def test_one_notice_for_each_turn(burst: Samples) -> None:
    async with open_session("activity") as session:
        await session.push(np.concatenate((burst, burst)))
        await session.end_input()
        events = [event async for event in session]
    finals = [event for event in events if isinstance(event, Final)]
    assert [final.text for final in finals] == [DEFAULT_CAPTION] * 2
    starts = [event.at for event in events if isinstance(event, SpeechStarted)]
    assert starts == pytest.approx([0.5, 3.0], abs=0.05)
    ends = [event.at for event in events if isinstance(event, Endpoint)]
    assert ends == pytest.approx([1.5, 4.0], abs=0.05)


async def test_a_turn_that_never_pauses_ends_with_the_input(burst: Samples) -> None:
    backend = ActivityBackend(caption="[speaks]")
    async with open_session(backend) as session:
        await session.push(burst[:24_000])
        await session.end_input()
        events = [event async for event in session]
    assert [event.text for event in events if isinstance(event, Final)] == ["[speaks]"]


async def test_a_reset_in_mid_speech_ends_the_turn_first(burst: Samples) -> None:
    backend = ActivityBackend()
    async with backend.connect(ConnectRequest()) as connection:
        for frame in Framer().push(burst[:24_000]):
            await connection.send(frame)
        await connection.reset()
        kinds = []
        async for event in connection:
            kinds.append(type(event).__name__)
            if isinstance(event, WasReset):
                break
    assert kinds[-3:] == ["WordEnd", "Voice", "WasReset"]
