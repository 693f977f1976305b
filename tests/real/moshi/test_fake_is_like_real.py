"""FakeMoshiServer against the real server: the same messages, the same answers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kyutai_stream.testing.moshi_server import FakeMoshiServer, Model
from kyutai_stream.testing.real import RealMoshiServer
from kyutai_stream.testing.real.raw import RawStream, open_raw
from kyutai_stream.testing.tones import speak

pytestmark = [pytest.mark.moshi, pytest.mark.timeout(180)]

KEY = "public_token"
Server = RealMoshiServer | FakeMoshiServer
Samples = npt.NDArray[np.float32]
Trace = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
async def real_server(moshi_ready: None) -> AsyncIterator[RealMoshiServer]:
    """One for all: what a stream leaves behind would show."""
    async with RealMoshiServer(batch_size=2, model="listen") as server:
        yield server


def fake_server() -> FakeMoshiServer:
    model = Model(batch_size=2, pieces=lambda text: 1)
    return FakeMoshiServer(model, speed=math.inf)


def silence(frames: float) -> Samples:
    return np.zeros(round(1920 * frames), np.float32)


def speech(text: str, lead_s: float) -> Samples:
    spoken = speak(text, lead_s=lead_s).samples
    return np.concatenate((spoken, np.zeros(-len(spoken) % 1920 + 1920 * 12, "f4")))


def audio(samples: Samples, chunk: int = 1920) -> Callable[[RawStream], Any]:
    return lambda stream: stream.audio(samples, chunk=chunk)


def send(kind: str, **fields: Any) -> Callable[[RawStream], Any]:
    return lambda stream: stream.send(kind, **fields)


def drain(stream: RawStream) -> Any:
    return stream.drain(0.5)


CASES: dict[str, list[Callable[[RawStream], Any]]] = {
    "long messages": [audio(silence(7), 5000)],
    "short messages": [audio(silence(7), 480)],
    "no whole frame": [audio(silence(0.9))],
    "empty audio": [send("Audio", pcm=[]), audio(silence(1)), send("Audio", pcm=[])],
    "marker between": [audio(silence(4)), send("Marker", id=1), audio(silence(10))],
    "marker behind a long message": [
        audio(silence(5), 9600),
        send("Marker", id=-1),
        audio(silence(10)),
    ],
    "marker alone": [send("Marker", id=1), drain, audio(silence(8))],
    "init keeps samples and markers": [
        audio(silence(0.5)),
        send("Marker", id=5),
        send("Init"),
        audio(silence(0.5)),
        audio(silence(9)),
    ],
    "init twice": [send("Init"), send("Init"), audio(silence(3))],
    "whole numbers": [send("Audio", pcm=[0] * 1920)],
    "unknown type": [audio(silence(2)), drain, send("Nope")],
    "field missing": [send("Audio")],
    "bytes for samples": [send("Audio", pcm=b"1234")],
    "text for samples": [send("Audio", pcm=["a"])],
    "broken number": [send("Marker", id=1.5)],
    "broken ogg": [send("OggOpus", data=[1, 2, 3]), audio(silence(1))],
    "bytes for ogg": [send("OggOpus", data=b"123")],
}


async def trace(
    server: Server, actions: list[Callable[[RawStream], Any]], steps_due: int = 0
) -> Trace:
    """Everything that came back, with the count of own steps in front."""
    seen: Trace = []
    async with open_raw(server.url, KEY, ready=False) as stream:
        try:
            for action in actions:
                await action(stream)
            # A busy machine may need long for a step.
            while sum(m["type"] == "Step" for m in stream.messages) < steps_due:
                await stream.next(20.0)
            await stream.drain(0.5)
        except ConnectionClosed as exc:
            seen.append((0, "closed", exc.rcvd and exc.rcvd.code))
        messages = stream.messages
    steps = 0
    for message in messages:
        kind = message.pop("type")
        if kind == "Step":
            steps += 1
            # Numbers count the server's whole life, pauses are the model's.
            seen.append((steps, kind, message["buffered_pcm"], len(message["prs"])))
        else:
            seen.append((steps, kind, *message.items()))
    return seen


async def both(
    real_server: RealMoshiServer, actions: list[Callable[[RawStream], Any]]
) -> tuple[Trace, Trace]:
    async with fake_server() as server:
        fake = await trace(server, actions)
    steps = sum(event[1] == "Step" for event in fake)
    return fake, await trace(real_server, actions, steps)


@pytest.mark.parametrize("name", CASES)
async def test_one_stream(real_server: RealMoshiServer, name: str) -> None:
    fake, real = await both(real_server, CASES[name])
    assert fake == real
    await real_server.wait_used_slots(0)


@pytest.mark.parametrize("lead_s", [0.0, 0.03, 0.3])
async def test_words(real_server: RealMoshiServer, lead_s: float) -> None:
    actions = [audio(speech("alpha bravo charlie delta. echo foxtrot golf", lead_s))]
    faked, real = await both(real_server, actions)

    def of_kind(events: Trace, kind: str) -> Trace:
        return [event for event in events if event[1] == kind]

    assert of_kind(faked, "Step") == of_kind(real, "Step")
    for kind in ("Word", "EndWord"):
        # The fake finds the edges of a word, the model counts whole frames.
        pairs = zip(of_kind(faked, kind), of_kind(real, kind), strict=True)
        for mine, theirs in pairs:
            # The real model's word goes on while its tones do.
            assert abs(mine[0] - theirs[0]) <= 4
            assert mine[2:-1] == theirs[2:-1]
            assert mine[-1][1] == pytest.approx(theirs[-1][1], abs=0.0801)
    order = [event[1] for event in real if event[1] in ("Word", "EndWord")]
    assert [e[1] for e in faked if e[1] in ("Word", "EndWord")] == order


async def two_streams(server: Server) -> Trace:
    seen: Trace = []
    async with open_raw(server.url, KEY) as one, open_raw(server.url, KEY) as two:
        async with open_raw(server.url, KEY, ready=False) as third:
            seen.append(tuple((await third.next()).items()))
            with contextlib.suppress(ConnectionClosed):
                await third.next()
            seen.append((third.socket.close_code,))
        await one.send("Marker", id=1)
        await two.audio(silence(10))
        await two.until_steps(10)
        await one.drain()
        seen.append(tuple(message["type"] for message in one.messages))
        indexes = [m["step_idx"] for m in two.messages if m["type"] == "Step"]
        seen.append(tuple(np.diff(indexes)))
        two.socket.transport.abort()
        with anyio.fail_after(5):
            while await used_slots(server) != 1:  # noqa: ASYNC110  # no event tells
                await anyio.sleep(0.01)
    return seen


async def used_slots(server: Server) -> int:
    if isinstance(server, FakeMoshiServer):
        return server.used_slots
    return await server.used_slots()


async def test_two_streams_and_a_third(real_server: RealMoshiServer) -> None:
    async with fake_server() as fake:
        assert await two_streams(fake) == await two_streams(real_server)


@pytest.mark.parametrize(
    ("query", "key"),
    [("", None), ("", "x"), (f"?auth_id={KEY}", None), (f"?auth_id={KEY}", "x")],
)
async def test_upgrade(
    real_server: RealMoshiServer, query: str, key: str | None
) -> None:
    async def status(server: Server) -> int:
        try:
            async with open_raw(f"{server.url}{query}", key):
                return 101
        except InvalidStatus as exc:
            return exc.response.status_code

    async with fake_server() as fake:
        assert await status(fake) == await status(real_server)
