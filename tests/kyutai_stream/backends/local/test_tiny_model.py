"""The real classes of `moshi` with a tiny generated model; see `conftest.py`."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import numpy.typing as npt
import pytest

from kyutai_stream import Endpoint, Final, SessionOptions, open_session
from kyutai_stream.backend import (
    Connection,
    ConnectionEvent,
    ConnectRequest,
    Flushed,
    Pause,
    Progress,
    Word,
)
from kyutai_stream.backends.local import LocalBackend
from kyutai_stream.backends.local._settings import LocalSettings
from kyutai_stream.core import FRAME_S
from kyutai_stream.errors import CapacityError, ConfigError, ConnectFailed
from kyutai_stream.testing import check_backend

if TYPE_CHECKING:
    from kyutai_stream.backends.local._torch import MoshiRecogniser

# Loading torch takes seconds on a busy machine.
pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]

Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def backend(tiny_folder: Path) -> LocalBackend:
    return LocalBackend(directory=tiny_folder, device="cpu", dtype="float32", slots=2)


@asynccontextmanager
async def opened(backend: LocalBackend) -> AsyncIterator[Connection]:
    with anyio.fail_after(120):
        async with backend.connect(ConnectRequest(language="en")) as connection:
            yield connection


async def hear(connection: Connection, samples: Samples) -> list[ConnectionEvent]:
    """All that comes for the samples, which are whole frames."""
    events: list[ConnectionEvent] = []
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            for frame in samples.reshape(-1, 1920):
                await connection.send(frame)
            await connection.request_flush(1)

        tasks.start_soon(send)
        async for event in connection:
            events.append(event)
            if isinstance(event, Flushed):
                break
    return events


def words(events: list[ConnectionEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Word)]


async def test_it_keeps_to_the_contract(backend: LocalBackend, low: Samples) -> None:
    await check_backend(backend, speech=low, language="en")


async def test_it_says_what_it_hears(
    backend: LocalBackend, low: Samples, high: Samples
) -> None:
    async with opened(backend) as connection:
        events = await hear(connection, np.concatenate((low, high)))
    said = words(events)
    assert set(said) == {"low", "high"}
    assert said == sorted(said, reverse=True)
    # Two seconds of tone, a word of four steps: PAD, EPAD and two pieces.
    assert said.count("low") in range(5, 9)
    assert said.count("high") in range(5, 9)
    starts = [event.start for event in events if isinstance(event, Word)]
    steps = np.diff(starts[: said.count("low")]) / FRAME_S
    assert steps == pytest.approx(4.0)
    # The crafted model answers at once; its times still have the delay taken off.
    assert starts[0] == pytest.approx(0.8 - 0.48, abs=0.17)


async def test_every_frame_is_acknowledged_and_pauses_are_told(
    backend: LocalBackend, low: Samples
) -> None:
    async with opened(backend) as connection:
        events = await hear(connection, low)
    progress = [e.frames_processed for e in events if isinstance(e, Progress)]
    assert progress == list(range(1, len(low) // 1920 + 1))
    pauses = [e for e in events if isinstance(e, Pause)]
    assert len(pauses) == len(progress)
    assert {pause.horizons_s for pause in pauses} == {(0.5, 1.0, 2.0, 3.0)}
    in_quiet, in_tone = pauses[-1].probabilities, pauses[20].probabilities
    assert all(was > is_ for was, is_ in zip(in_quiet, in_tone, strict=True))


async def test_speakers_at_once_do_not_hear_each_other(
    backend: LocalBackend, low: Samples, high: Samples
) -> None:
    alone = {}
    for name, samples in (("low", low), ("high", high)):
        async with opened(backend) as connection:
            alone[name] = await hear(connection, samples)
    together = {}

    async def speak(name: str, samples: Samples) -> None:
        async with opened(backend) as connection:
            together[name] = await hear(connection, samples)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(speak, "low", low)
        tasks.start_soon(speak, "high", high)
    for name, events in together.items():
        assert set(words(events)) == {name}
        expected = [event for event in alone[name] if isinstance(event, Word)]
        assert [event for event in events if isinstance(event, Word)] == expected


async def test_a_reset_forgets(
    backend: LocalBackend, low: Samples, high: Samples
) -> None:
    async with opened(backend) as connection:
        fresh = await hear(connection, high)
    async with opened(backend) as connection:
        # Cut off in the tone, in the middle of a word or not.
        await hear(connection, low[: 1920 * 22])
        await connection.reset()
        again = await hear(connection, high)
    kinds = [type(event).__name__ for event in again]
    since = kinds.index("WasReset")
    assert [e for e in again[since:] if isinstance(e, Word)] == [
        e for e in fresh if isinstance(e, Word)
    ]


async def test_a_cancelled_speaker_frees_her_place(
    backend: LocalBackend, low: Samples, high: Samples
) -> None:
    async with opened(backend) as first:
        await hear(first, high[: 1920 * 15])
        for _ in range(3):
            with anyio.CancelScope() as scope:
                async with opened(backend) as second:
                    for frame in low.reshape(-1, 1920)[:18]:
                        await second.send(frame)
                    scope.cancel()
                    await second.send(low[:1920])
        async with opened(backend) as second:
            assert set(words(await hear(second, low))) == {"low"}
            with pytest.raises(CapacityError):
                async with opened(backend):
                    raise AssertionError("both places are taken")
        assert set(words(await hear(first, high[1920 * 15 :]))) == {"high"}


async def test_a_session_on_it(
    backend: LocalBackend, low: Samples, high: Samples
) -> None:
    samples = np.concatenate((low, high))
    options = SessionOptions()
    async with open_session(backend, language="en", options=options) as session:
        async with anyio.create_task_group() as tasks:

            async def push() -> None:
                await session.push(samples)
                await session.end_input()

            tasks.start_soon(push)
            events = [event async for event in session]
    finals = [event.text for event in events if isinstance(event, Final)]
    said = " ".join(finals).split()
    assert said == sorted(said, reverse=True)
    assert set(said) == {"low", "high"}
    assert any(isinstance(event, Endpoint) for event in events)


async def test_two_backends_share_one_model(
    backend: LocalBackend, tiny_folder: Path
) -> None:
    other = LocalBackend(
        directory=str(tiny_folder), device="cpu", dtype="float32", slots=2
    )
    assert other._engine is backend._engine
    third = LocalBackend(directory=tiny_folder, device="cpu", dtype="float32", slots=3)
    assert third._engine is not backend._engine


async def test_half_precision(tiny_folder: Path, high: Samples) -> None:
    backend = LocalBackend(directory=tiny_folder, device="cpu", slots=1)
    async with opened(backend) as connection:
        assert set(words(await hear(connection, high))) == {"high"}


async def test_a_device_that_is_not_there(tiny_folder: Path) -> None:
    backend = LocalBackend(directory=tiny_folder, device="cuda:99")
    with pytest.raises(ConfigError, match="cuda:99"):
        async with opened(backend):
            raise AssertionError("there is no such device")


async def test_a_folder_that_is_not_whole(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_folder / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        async with opened(LocalBackend(directory=tmp_path, device="cpu")):
            raise AssertionError("files are missing")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    (broken / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ConnectFailed, match="could not be loaded"):
        async with opened(LocalBackend(directory=broken, device="cpu", slots=1)):
            raise AssertionError("a file is broken")


# -- places that come and go, on the recogniser itself -------------------------------


@pytest.fixture(scope="module")
def recogniser(random_folder: Path) -> Iterator[MoshiRecogniser]:
    from kyutai_stream.backends.local._torch import load

    settings = LocalSettings.checked(
        hf_repo=None,
        directory=random_folder,
        languages=None,
        device="cpu",
        dtype="float32",
        slots=3,
        temperature=0.0,
    )
    yield load(settings)


def run(
    recogniser: MoshiRecogniser, streams: list[Samples], turns: list[list[int]]
) -> list[list[tuple[int, list[float]]]]:
    """Play the next frame of the streams named in each turn.

    Returns:
        For each stream, token and pause probabilities of each of its frames.
    """
    recogniser.reset(np.ones(3, dtype=np.bool_))
    said: list[list[tuple[int, list[float]]]] = [[], [], []]
    rng = np.random.default_rng(1)
    for turn in turns:
        # What stands in the rows of absent streams must not matter.
        audio = rng.normal(size=(3, 1920)).astype(np.float32)
        active = np.zeros(3, dtype=np.bool_)
        for number in turn:
            audio[number] = streams[number][len(said[number])]
            active[number] = True
        output = recogniser.step(audio, active)
        for number in turn:
            row: Any = output.pauses[number].tolist()
            said[number].append((int(output.tokens[number]), row))
    return said


def test_a_stream_hears_only_itself_whoever_comes_and_goes(
    recogniser: MoshiRecogniser,
) -> None:
    rng = np.random.default_rng(0)
    streams = [
        (amount * rng.normal(size=(40, 1920))).astype(np.float32)
        for amount in (0.05, 0.2, 0.5)
    ]
    alone = []
    for number in range(3):
        alone.append(run(recogniser, streams, [[number]] * 40)[number])
    together = run(recogniser, streams, [[0, 1, 2]] * 40)
    # Bursts, pauses, late starts: each stream has 40 turns somewhere.
    order = [0] * 5 + [1] * 11 + [0] * 35 + [2] * 40 + [1] * 29
    turns = [[number] for number in order]
    mixed = run(recogniser, streams, turns)
    for number in range(3):
        for other in (together[number], mixed[number]):
            assert [token for token, _ in other] == [t for t, _ in alone[number]]
            for (_, was), (_, is_) in zip(alone[number], other, strict=True):
                assert is_ == pytest.approx(was, abs=1e-4)
    # The model listens: other audio, other tokens.
    assert len({tuple(token for token, _ in stream) for stream in alone}) == 3


def test_the_first_frame_is_heard(recogniser: MoshiRecogniser) -> None:
    """Streams that differ in their first frame only say different things."""
    rng = np.random.default_rng(3)
    loud = rng.normal(size=(2, 1920)).astype(np.float32)
    one = np.concatenate((loud[:1], np.zeros((5, 1920), dtype=np.float32)))
    two = np.concatenate((loud[1:] * 0, np.zeros((5, 1920), dtype=np.float32)))
    said = run(recogniser, [one, two, two], [[0, 1]] * 6)
    assert said[0][0][1] != pytest.approx(said[1][0][1], abs=1e-4)


def test_a_reset_of_one_place_leaves_the_others(recogniser: MoshiRecogniser) -> None:
    rng = np.random.default_rng(4)
    streams = [rng.normal(size=(20, 1920)).astype(np.float32) * 0.3 for _ in range(3)]
    undisturbed = run(recogniser, streams, [[0, 1]] * 20)
    recogniser.reset(np.ones(3, dtype=np.bool_))
    said = []
    for turn in range(20):
        if turn == 9:
            recogniser.reset(np.array([False, True, False]))
        audio = np.stack([stream[turn] for stream in streams])
        output = recogniser.step(audio, np.array([True, True, False]))
        said.append((int(output.tokens[0]), output.pauses[0].tolist()))
    for (token, was), (again, is_) in zip(undisturbed[0], said, strict=True):
        assert token == again
        assert is_ == pytest.approx(was, abs=1e-4)
