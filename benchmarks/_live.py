# SPDX-License-Identifier: MIT
"""Many live sessions in this process: one row of figures."""

from __future__ import annotations

import gc
import os
import random
import time
import tracemalloc
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.lowlevel
import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from kyutai_stream import open_session
from kyutai_stream.audio import AudioFormat
from kyutai_stream.session import Session, SessionOptions

from ._encodings import Encoding
from ._figures import Row, percentile, waited_for_cpu_s
from ._probe import ProbeBackend, ramp
from ._sampler import Sampler

__all__ = ["LiveJob", "delays", "measure"]

CHUNK_S = 0.02
"""A packet of WebRTC audio."""

TOLERANCE = 8
"""Samples by which the end of a frame may be read wrongly from the ramp."""

MEMORY_S = 4.0
"""Seconds of audio after which a session's memory is looked at: by then as much of
it is kept as ever is while words come."""

RESAMPLER_SAMPLES = 24
"""A resampled frame is complete 1 ms (at 24 000 Hz) after its last sample."""


@frozen(kw_only=True)
class LiveJob:
    """What to measure."""

    url: str
    sessions: int
    seconds: float
    """Measured seconds of audio."""
    warm_up_s: float
    """Seconds of audio before that."""
    source_rate: int
    encoding: Encoding
    together: bool
    """Whether all packets come at the same moment instead of spread out."""
    profile: int = 0
    """How many of the dearest functions to report, too."""


class Microphone:
    """Pushes live audio into one session, from a callback of the event loop.

    A timer for each packet, as from a socket: no task of its own, so that the
    figures are those of the session.
    """

    def __init__(
        self, push: Callable[[npt.NDArray[np.float32]], object], job: LiveJob
    ) -> None:
        self._push = push
        self._step = round(CHUNK_S * job.source_rate)
        self.pushed: list[float] = []
        """Loop seconds at which each packet was pushed."""

    def speak(self, audio: npt.NDArray[np.float32], begin: float) -> None:
        """Push the audio packet by packet, the first one at `begin`."""
        # An asyncio timer; anyio has none without a task.
        import asyncio

        loop = asyncio.get_running_loop()
        step, push, pushed = self._step, self._push, self.pushed
        packets = len(audio) // step

        def packet() -> None:
            number = len(pushed)
            pushed.append(loop.time())
            push(audio[number * step : (number + 1) * step])
            if number + 1 < packets:
                loop.call_at(begin + (number + 1) * CHUNK_S, packet)

        loop.call_at(begin, packet)


def measure(job: LiveJob) -> list[Row]:
    """Run a job; returns its figures, then those of functions."""
    return anyio.run(_measure, job)


async def _measure(job: LiveJob) -> list[Row]:
    audio = ramp(job.warm_up_s + job.seconds + 1.0, job.source_rate)
    harness_us = await _harness_us(job, audio)
    kb_per_session = await _kb_per_session(job, audio)
    sampler = Sampler()
    async with _party(job) as party:
        begin = _speak(party.microphones, job, audio)
        await anyio.sleep_until(begin + job.warm_up_s)
        before = _Costs.now(party)
        if job.profile:
            sampler.start()
        await anyio.sleep(job.seconds)
        sampler.stop()
        after = _Costs.now(party)
        metrics = [session.metrics for session in party.sessions]
    took_s = after.at - before.at
    session_s = job.sessions * took_s
    cpu_us = (after.cpu_s - before.cpu_s) / session_s * 1e6
    figures: Row = {
        "sessions": job.sessions,
        "source_rate": job.source_rate,
        "encoding": job.encoding,
        "audio_s": round(took_s, 2),
        **_latencies(party, job, before.at, after.at),
        "cpu_us_per_audio_s": cpu_us - harness_us,
        "encoding_us_per_audio_s": (after.encode_s - before.encode_s) / session_s * 1e6,
        "harness_us_per_audio_s": harness_us,
        "kb_per_session": kb_per_session,
        "words": sum(one.usage.words for one in metrics),
        "frames_of_silence": round(sum(one.usage.silence_s for one in metrics) / 0.08),
        "reconnects": sum(one.reconnects for one in metrics),
        "no_cpu_ms_per_s": (after.waited_s - before.waited_s) / took_s * 1e3,
        "load": round(os.getloadavg()[0], 2),
    }
    return [figures, *sampler.rows(cpu_us, job.profile)]


@frozen(kw_only=True)
class _Party:
    """Sessions that are read, each with its microphone."""

    backends: list[ProbeBackend]
    sessions: list[Session]
    microphones: list[Microphone]


@asynccontextmanager
async def _party(job: LiveJob) -> AsyncGenerator[_Party, None]:
    options = SessionOptions(input_format=AudioFormat(sample_rate=job.source_rate))
    async with AsyncExitStack() as stack:
        backends = [ProbeBackend(job.url, job.encoding) for _ in range(job.sessions)]
        sessions = [
            await stack.enter_async_context(open_session(backend, options=options))
            for backend in backends
        ]
        readers = await stack.enter_async_context(anyio.create_task_group())
        for session in sessions:
            readers.start_soon(_read, session)
        yield _Party(
            backends=backends,
            sessions=sessions,
            microphones=[Microphone(session.try_push, job) for session in sessions],
        )
        readers.cancel_scope.cancel()


@frozen(kw_only=True)
class _Costs:
    """What this process has used so far, seconds."""

    at: float
    """On the loop's clock."""
    cpu_s: float
    waited_s: float
    encode_s: float

    @classmethod
    def now(cls, party: _Party) -> _Costs:
        return cls(
            cpu_s=time.process_time(),
            waited_s=waited_for_cpu_s(),
            encode_s=sum(backend.encoder.cpu_s for backend in party.backends),
            at=anyio.current_time(),
        )


def _latencies(party: _Party, job: LiveJob, since: float, until: float) -> Row:
    """How long the frames took that were sent within a time."""
    times: list[float] = []
    strict: list[float] = []
    for microphone, backend in zip(party.microphones, party.backends, strict=True):
        window = [(at, when) for at, when in backend.sent if since <= when < until]
        times += delays(window, microphone.pushed, job, RESAMPLER_SAMPLES)
        strict += delays(window, microphone.pushed, job, 0)
    return {
        "frames": len(times),
        **_spread("frame_to_socket_ms", times),
        "frame_to_socket_ms_max": max(times, default=0.0) * 1e3,
        "source_to_socket_ms_p95": percentile(strict, 95) * 1e3,
    }


async def _read(session: Session) -> None:
    async for _ in session:
        pass


def _speak(
    microphones: list[Microphone], job: LiveJob, audio: npt.NDArray[np.float32]
) -> float:
    """Let all begin; returns when the last one does, loop seconds."""
    # Frames of 80 ms begin where speakers begin: anywhere.
    spread = random.Random(1)
    soon = anyio.current_time() + 0.5
    for microphone in microphones:
        offset_s = 0.0 if job.together else spread.uniform(0.0, 0.08)
        microphone.speak(audio, soon + offset_s)
    return soon + 0.08


async def _harness_us(job: LiveJob, audio: npt.NDArray[np.float32]) -> float:
    """CPU of the packets' timers alone, µs per session and second."""
    seconds = min(2.0, job.seconds)
    microphones = [Microphone(_ignore, job) for _ in range(job.sessions)]
    part = audio[: round(seconds * job.source_rate)]
    begin = _speak(microphones, job, part)
    cpu_s = time.process_time()
    await anyio.sleep_until(begin + seconds + 0.1)
    return (time.process_time() - cpu_s) / (seconds * job.sessions) * 1e6


async def _kb_per_session(job: LiveJob, audio: npt.NDArray[np.float32]) -> float:
    """Memory that Python and numpy hold for one speaking session, kB.

    Tracing makes everything slow, so it is done apart, with few sessions.
    """
    few = evolve(job, sessions=min(5, job.sessions))
    # What is loaded late is nobody's.
    await _speak_for(few, audio, 0.5)
    tracemalloc.start()
    try:
        seconds = min(MEMORY_S, job.seconds)
        return await _speak_for(few, audio, seconds) / few.sessions
    finally:
        tracemalloc.stop()


async def _speak_for(
    job: LiveJob, audio: npt.NDArray[np.float32], seconds: float
) -> float:
    """Let sessions run for a while; returns the traced memory they hold then, kB."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    async with _party(job) as party:
        part = audio[: round(seconds * job.source_rate)]
        await anyio.sleep_until(_speak(party.microphones, job, part) + seconds)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    return held / 1000


def _ignore(samples: npt.NDArray[np.float32]) -> None:
    pass


def delays(
    sent: list[tuple[int, float]], pushed: list[float], job: LiveJob, more: int
) -> list[float]:
    """From the push that completed a frame to its being sent, seconds.

    Args:
        sent: Frames by their last sample, and when they were sent.
        pushed: When each packet was pushed.
        job: For its rate.
        more: Samples (24 000 Hz) needed after the last one.
    """
    if job.source_rate == 24_000:
        more = 0
    packet = round(CHUNK_S * 24_000)
    found = []
    for last, when in sent:
        # Silence that the session fed has no place on the ramp.
        number = (last + more - TOLERANCE) // packet
        if 0 < number < len(pushed):
            found.append(when - pushed[number])
    return found


def _spread(name: str, seconds: list[float]) -> dict[str, float]:
    return {f"{name}_p{p}": percentile(seconds, p) * 1e3 for p in (50, 95, 99)}
