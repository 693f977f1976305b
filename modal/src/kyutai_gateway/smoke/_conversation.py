# SPDX-License-Identifier: MIT
"""The checks that speak: delays, words, flush, end, and the speed of the model."""

from __future__ import annotations

import math

import anyio
import numpy as np

from kyutai_stream.core import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE

from ._link import Refused, Samples, Stream, open_stream
from ._plan import Plan
from ._report import Finding

__all__ = ["check_conversation", "check_speed"]

FAST_S = 8.0
"""Audio that is sent at once, to see how fast the model is."""


async def check_conversation(plan: Plan) -> list[Finding]:
    """Speak at the pace of speech, flush, end: delays, words, the close."""
    try:
        async with open_stream(plan.target, timeout_s=plan.start_timeout_s) as stream:
            if not await stream.until(lambda: bool(stream.of("ready")), plan.answer_s):
                return [_unready(stream)]
            ready = stream.of("ready")[0][1]
            pong_s = await stream.round_trip_s(5.0)
            sent = await _speak(stream, plan.audio)
            await stream.send({"type": "flush", "id": 1})
            flushed = await stream.until(
                lambda: bool(stream.of("flushed")), plan.answer_s
            )
            findings = [
                _heard(plan, stream, sent, acks=ready.get("acks") is True),
                _simple("flush", flushed, "the last words came out", "no answer"),
                _pinged(pong_s),
            ]
            await stream.send({"type": "eos"})
            await stream.until_ended(plan.answer_s)
            findings.append(_ended(stream))
            return findings
    except Refused as exc:
        return [Finding(name="stream", outcome="failed", said=str(exc))]


def _unready(stream: Stream) -> Finding:
    errors = [message.get("code") for _, message in stream.of("error")]
    said = f"no `ready`; errors {errors}, close code {stream.code}"
    return Finding(name="stream", outcome="failed", said=said)


async def _speak(stream: Stream, audio: Samples) -> list[float]:
    """Send in real time; returns when each frame was sent."""
    began = anyio.current_time()
    sent = []
    frames = math.ceil(len(audio) / FRAME_SAMPLES)
    padded = np.zeros(frames * FRAME_SAMPLES, np.float32)
    padded[: len(audio)] = audio
    for number, frame in enumerate(padded.reshape(-1, FRAME_SAMPLES), 1):
        # A microphone has a frame when its last sample was spoken.
        await anyio.sleep_until(began + number * FRAME_S)
        await stream.send(frame)
        sent.append(anyio.current_time())
    return sent


def _heard(plan: Plan, stream: Stream, sent: list[float], *, acks: bool) -> Finding:
    words = stream.of("token")
    figures: dict[str, object] = {"words": len(words)}
    began = sent[0] - FRAME_S
    late = [at - began - float(word.get("start", 0.0)) for at, word in words]
    if late:
        figures["word_after_p50"] = round(float(np.median(late)), 3)
    lags = _lags(stream, sent)
    if lags:
        figures["ack_after_p50"] = round(float(np.percentile(lags, 50)), 3)
        figures["ack_after_p95"] = round(float(np.percentile(lags, 95)), 3)
    problem = ""
    if stream.of("error"):
        problem = f"error {stream.of('error')[0][1].get('code')}"
    elif acks and len(lags) < len(sent):
        problem = f"only {len(lags)} of {len(sent)} frames were processed"
    elif plan.speech and not words:
        problem = "no word of the speech was recognised"
    said = ", ".join(f"{name.replace('_', ' ')} {v}" for name, v in figures.items())
    return Finding(
        name="stream",
        outcome="failed" if problem else "ok",
        said=problem or said,
        figures=figures,
    )


def _lags(stream: Stream, sent: list[float]) -> list[float]:
    """How long after each frame was sent it had been processed."""
    lags: list[float] = []
    for at, message in stream.of("ack"):
        done = min(int(message.get("samples", 0)) // FRAME_SAMPLES, len(sent))
        lags += [at - sent[number] for number in range(len(lags), done)]
    return lags


def _simple(name: str, good: bool, yes: str, no: str) -> Finding:
    return Finding(
        name=name, outcome="ok" if good else "failed", said=yes if good else no
    )


def _pinged(pong_s: float | None) -> Finding:
    if pong_s is None:
        said = "websocket pings are not answered on the way"
        return Finding(name="ping", outcome="noted", said=said)
    said = f"a websocket ping is answered after {pong_s:.3f} s"
    return Finding(
        name="ping", outcome="noted", said=said, figures={"pong": round(pong_s, 4)}
    )


def _ended(stream: Stream) -> Finding:
    good = bool(stream.of("end")) and stream.code == 1000
    said = f"`end` {'came' if stream.of('end') else 'is missing'}, code {stream.code}"
    return Finding(
        name="end",
        outcome="ok" if good else "failed",
        said=said,
        figures={"code": stream.code},
    )


async def check_speed(plan: Plan) -> Finding:
    """Send seconds of audio at once: how much faster than speech is the model?"""
    samples = np.zeros(round(FAST_S * SAMPLE_RATE), np.float32)
    try:
        async with open_stream(plan.target, timeout_s=plan.answer_s) as stream:
            await stream.until(lambda: bool(stream.of("ready")), plan.answer_s)
            if stream.of("ready") and stream.of("ready")[0][1].get("acks") is not True:
                said = "this model does not say how far it is"
                return Finding(name="speed", outcome="skipped", said=said)
            began = anyio.current_time()
            await stream.send(samples)

            def done() -> bool:
                acks = stream.of("ack")
                return bool(acks) and acks[-1][1].get("samples", 0) >= len(samples)

            if not await stream.until(done, 3 * FAST_S):
                said = f"{FAST_S:g} s of audio took more than {3 * FAST_S:g} s"
                return Finding(name="speed", outcome="failed", said=said)
            factor = FAST_S / (anyio.current_time() - began)
    except Refused as exc:
        return Finding(name="speed", outcome="failed", said=str(exc))
    slow = factor < 1.0
    said = f"{factor:.1f} times as fast as speech" + (": too slow" if slow else "")
    return Finding(
        name="speed",
        outcome="failed" if slow else "ok",
        said=said,
        figures={
            "times_real_time": round(factor, 2),
            "steps_per_s": round(factor * 12.5, 1),
        },
    )
