# SPDX-License-Identifier: MIT
"""The measured side of the receive benchmark, in a process of its own.

`python -m benchmarks._receive_client PATH` reads one line of JSON (offers, times),
prints the answers, then `ready`, and at the end its figures.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import av
import numpy as np
import numpy.typing as npt
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from anyio.abc import TaskGroup
from attrs import define, field
from scipy.signal import resample_poly

from spreed_signaling import Participant
from spreed_signaling.media import Speaker
from spreed_signaling.media.links import SubscriberLink
from spreed_signaling.media.peer import SubscriberPeer
from spreed_signaling.protocol.negotiation import (
    PeerState,
    SubscriptionOptions,
)

from ._figures import rss_kb
from ._receive_sender import only_loopback
from ._sampler import Sampler

Floats = npt.NDArray[np.float32]

RATE = 24_000
FRAME = 1_920
LOUD = 0.45


@define
class Ear:
    """The consumer of one stream: counts, and notices clicks."""

    samples: int = 0
    concealed_ms: float = 0.0
    clicks: list[tuple[float, int]] = field(factory=list)
    """When a frame with a click came, and how many samples of it follow the click."""
    last_click: float = -1.0
    connected: bool = False

    def hear(self, frame: Floats) -> None:
        self.samples += len(frame)
        loud = np.abs(frame) > LOUD
        if loud.any():
            now = time.monotonic()
            # A click may lie in two frames.
            if now - self.last_click > 0.5:
                self.clicks.append((now, len(frame) - int(loud.argmax())))
                self.last_click = now


class Framing:
    """What the stock paths need to deliver frames."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear
        self._parts: list[Floats] = []
        self._length = 0

    def add(self, part: Floats) -> None:
        self._parts.append(part)
        self._length += len(part)
        while self._length >= FRAME:
            joined = np.concatenate(self._parts)
            self._ear.hear(joined[:FRAME])
            self._parts = [joined[FRAME:]]
            self._length -= FRAME


def mono(frame: av.AudioFrame) -> Floats:
    samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    mixed: Floats = samples.mean(axis=1, dtype=np.float32) / np.float32(32_768)
    return mixed


def with_resample_poly(ear: Ear) -> Callable[[av.AudioFrame], None]:
    """What many applications do: each 20 ms frame by itself."""
    framing = Framing(ear)
    return lambda frame: framing.add(
        resample_poly(mono(frame), 1, 2).astype(np.float32)
    )


def with_soxr(ear: Ear) -> Callable[[av.AudioFrame], None]:
    """A streaming resampler in blocks of 80 ms."""
    # No dependency of ours.
    soxr = importlib.import_module("soxr")
    stream = soxr.ResampleStream(2 * RATE, RATE, 1, dtype="float32")
    framing = Framing(ear)
    waiting: list[Floats] = []

    def take(frame: av.AudioFrame) -> None:
        waiting.append(mono(frame))
        if len(waiting) == 4:
            framing.add(stream.resample_chunk(np.concatenate(waiting)))
            waiting.clear()

    return take


async def answer_stock(
    offer: str, ear: Ear, tasks: TaskGroup, path: str
) -> tuple[str, SubscriberPeer]:
    take = (with_soxr if path == "stock_soxr" else with_resample_poly)(ear)

    async def run(track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame), "remote tracks are decoded"
                take(frame)
        except MediaStreamError:
            return

    def on_state(state: PeerState) -> None:
        ear.connected = state is PeerState.CONNECTED

    def on_track(track: MediaStreamTrack) -> None:
        tasks.start_soon(run, track)

    peer = SubscriberPeer((), on_state, on_track)
    return await peer.answer(offer), peer


async def answer_ours(
    offer: str, ear: Ear, tasks: TaskGroup
) -> tuple[str, SubscriberPeer]:
    """The subscription as the library drives it, without the signaling."""
    one = Participant(session_id="speaker", display_name="")
    speaker = Speaker(one, lambda speaker: None, lambda speaker: None)
    link = SubscriberLink(speaker, lambda signal: "1", (), SubscriptionOptions())

    async def consume() -> None:
        async for chunk in speaker.audio():
            ear.hear(chunk.samples)
            ear.concealed_ms += chunk.concealed_ms

    tasks.start_soon(consume)
    # The consumer sets the format before packets come.
    await anyio.lowlevel.checkpoint()
    link._open_peer("sid", tasks)
    peer = link._peer
    assert peer is not None, "opened right above"
    inner = peer._on_state

    def on_state(state: PeerState) -> None:
        ear.connected = state is PeerState.CONNECTED
        inner(state)

    peer._on_state = on_state
    answer = await peer.answer(offer)
    speaker._receiver.payload_types = peer.opus_payload_types
    return answer, peer


async def measure(path: str, job: dict[str, Any]) -> dict[str, Any]:
    before_kb = rss_kb()
    ears = [Ear() for _ in job["offers"]]
    peers: list[SubscriberPeer] = []
    profile = Sampler() if job["profile"] else None
    async with anyio.create_task_group() as tasks:
        answers = []
        for offer, ear in zip(job["offers"], ears, strict=True):
            if path == "ours":
                answer, peer = await answer_ours(offer, ear, tasks)
            else:
                answer, peer = await answer_stock(offer, ear, tasks, path)
            answers.append(answer)
            peers.append(peer)
        say(answers)
        with anyio.fail_after(60):
            while not all(ear.connected for ear in ears):  # noqa: ASYNC110  # no event
                await anyio.sleep(0.05)
        figures = await listen(job, ears, before_kb, profile)
        for peer in peers:
            await peer.close()
        tasks.cancel_scope.cancel()
    cpu_us = figures["cpu_us_per_audio_s"]
    return figures | {
        "profile": [] if profile is None else profile.rows(cpu_us, 12),
    }


async def listen(
    job: dict[str, Any],
    ears: list[Ear],
    before_kb: float,
    profile: Sampler | None = None,
) -> dict[str, Any]:
    """Say that everybody is connected, and measure until all was sent.

    Args:
        job: For its times.
        ears: Of everybody.
        before_kb: Memory before they came.
        profile: Runs while the CPU is measured.
    """
    say("ready")
    await anyio.sleep(job["warm_up_s"])
    if profile is not None:
        profile.start()
    began, cpu_s = time.monotonic(), time.process_time()
    await anyio.sleep(job["seconds"])
    took, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
    if profile is not None:
        profile.stop()
    await anyio.to_thread.run_sync(sys.stdin.readline)
    return {
        "cpu_us_per_audio_s": cpu_s / took / len(ears) * 1e6,
        "kb_per_speaker": (rss_kb() - before_kb) / len(ears),
        "samples": [ear.samples for ear in ears],
        "concealed_ms": [ear.concealed_ms for ear in ears],
        "clicks": [ear.clicks for ear in ears],
    }


def say(what: Iterable[Any]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    path = sys.argv[1]
    only_loopback()
    if path == "stock_soxr":
        # Its memory is nobody's stream.
        importlib.import_module("soxr")
    say(anyio.run(measure, path, json.loads(sys.stdin.readline())))


if __name__ == "__main__":
    main()
