# SPDX-License-Identifier: MIT
"""Hear many speakers for long, and see that nothing adds up.

The embedded HPB with its media server and the people who talk run in another process;
this one joins the call as a bot and takes everybody's audio. Memory, tasks, threads and
descriptors must not grow after the warm-up, everything that was sent must be heard, and
what was lost on purpose (1 % by default) concealed. `heard_share_least` is of real
time: below 1 where the machine could not send so much.

    python -m benchmarks.soak_receive --speakers 64 --minutes 10
    python -m benchmarks.soak_receive --speakers 4 --minutes 0.2 --json
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import anyio
import anyio.abc
from attrs import define, field, frozen

from spreed_signaling import InternalAuth, connect
from spreed_signaling.media import Call, Speaker, SpeakerStats

from ._child import open_child
from ._figures import Row, conclude, descriptors, rss_kb, threads
from ._receive_sender import only_loopback
from ._soak_talkers import ROOM, SECRET

__all__ = ["main", "wrong_in"]

WARM_UP_SHARE = 0.2
"""Of the time: allocators reach their size, jitter statistics their windows."""

FLAT_KB = 2_000
"""How far memory may be from where it was after the warm-up."""

SETTLE_S = 1.0
LATEST_S = 30.0
PACKET_S = 0.02


@frozen(kw_only=True)
class SoakJob:
    """What to do."""

    speakers: int
    minutes: float
    loss: float
    looks: int = 20


@define
class Ears:
    """Everybody's consumer."""

    speakers: list[Speaker] = field(factory=list)
    heard_s: list[float] = field(factory=list)
    """By speaker."""

    async def listen(self, speaker: Speaker) -> None:
        number = len(self.speakers)
        self.speakers.append(speaker)
        self.heard_s.append(0.0)
        async for chunk in speaker.audio():
            self.heard_s[number] += len(chunk.samples) / chunk.sample_rate


@frozen(kw_only=True)
class Look:
    """The process at one moment."""

    at_s: float
    rss_kb: float
    tasks: int
    threads: int
    descriptors: int
    heard_s: tuple[float, ...]


async def soak(job: SoakJob) -> tuple[list[Row], Row]:
    """Run it; returns a row for each look, and one that sums up."""
    ears = Ears()
    before = _look(0.0, ears)
    speakers, loss = str(job.speakers), str(job.loss)
    async with open_child("_soak_talkers", speakers, loss) as others:
        place = await others.hear(_patience_s(job))
        auth = InternalAuth(secret=SECRET, backend_url=place["nextcloud"])
        async with (
            connect(place["url"], auth) as client,
            client.join(ROOM) as room,
            Call(room) as call,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_listen_to_all, call, ears, tasks)
            await _until_all_are_heard(job, ears)
            looks, cpu_us = await _watch(job, ears)
            await others.tell("go on")
            sent = await others.hear(60)
            await _until_all_has_arrived(ears, sent)
            stats = [speaker.stats for speaker in ears.speakers]
            tasks.cancel_scope.cancel()
    await anyio.sleep(SETTLE_S)
    summary = {
        "speakers": len(stats),
        "minutes": round(looks[-1].at_s / 60, 2),
        "cpu_us_per_audio_s": cpu_us,
        **_growth(job, looks),
        **_left(before, _look(0.0, ears)),
        "sent": sent,
        **_totals(stats),
    }
    return [_row(look) for look in looks], summary


def _growth(job: SoakJob, looks: list[Look]) -> Row:
    """What changed after the warm-up."""
    warm = [look for look in looks if look.at_s >= job.minutes * 60 * WARM_UP_SHARE]
    first, last = warm[0], warm[-1]
    took = last.at_s - first.at_s
    shares = [
        (late - early) / took
        for early, late in zip(first.heard_s, last.heard_s, strict=True)
    ]
    return {
        "compared_minutes": round(took / 60, 2),
        "rss_kb": round(last.rss_kb),
        "rss_growth_kb": round(last.rss_kb - first.rss_kb),
        "rss_farthest_kb": round(max(abs(one.rss_kb - first.rss_kb) for one in warm)),
        "tasks_growth": max(one.tasks for one in warm) - first.tasks,
        "threads_growth": max(one.threads for one in warm) - first.threads,
        "descriptors_growth": max(one.descriptors for one in warm) - first.descriptors,
        "heard_share_least": min(shares),
    }


def _left(before: Look, after: Look) -> Row:
    """What is still there when everything has ended."""
    return {
        "tasks_left": after.tasks - before.tasks,
        "threads_left": after.threads - before.threads,
        "descriptors_left": after.descriptors - before.descriptors,
    }


def _totals(stats: list[SpeakerStats]) -> Row:
    """What was received of all speakers."""
    return {
        "packets": sum(one.packets for one in stats),
        "received_s": sum(one.received_s for one in stats),
        "lost": sum(one.lost for one in stats),
        "recovered": sum(one.recovered for one in stats),
        "gap_s": sum(one.gap_s for one in stats),
        "dropped_s": sum(one.dropped_s for one in stats),
        "errors": sum(one.errors + one.refused for one in stats),
        "requests_most": max(one.requests for one in stats),
    }


async def _listen_to_all(call: Call, ears: Ears, tasks: anyio.abc.TaskGroup) -> None:
    async for speaker in call.speakers():
        tasks.start_soon(ears.listen, speaker)


async def _until_all_are_heard(job: SoakJob, ears: Ears) -> None:
    with anyio.fail_after(_patience_s(job)):
        while len(ears.heard_s) < job.speakers or min(ears.heard_s) == 0:  # noqa: ASYNC110  # no event
            await anyio.sleep(0.1)


async def _until_all_has_arrived(ears: Ears, sent: int) -> None:
    """Let a busy machine read what waits in the sockets."""
    with anyio.move_on_after(LATEST_S):
        while sum(speaker.stats.packets for speaker in ears.speakers) < sent:  # noqa: ASYNC110  # no event
            await anyio.sleep(0.1)
    # And the last frames come out.
    await anyio.sleep(SETTLE_S)


def _patience_s(job: SoakJob) -> float:
    """Connecting takes its time on a busy machine."""
    return 40 + 3 * job.speakers


async def _watch(job: SoakJob, ears: Ears) -> tuple[list[Look], float]:
    """Look at the process from time to time; returns the CPU time, too."""
    began, cpu = anyio.current_time(), time.process_time()
    looks = [_look(0.0, ears)]
    for number in range(1, job.looks + 1):
        await anyio.sleep_until(began + number * job.minutes * 60 / job.looks)
        looks.append(_look(anyio.current_time() - began, ears))
    took = anyio.current_time() - began
    return looks, (time.process_time() - cpu) / took / job.speakers * 1e6


def _look(at_s: float, ears: Ears) -> Look:
    return Look(
        at_s=at_s,
        rss_kb=rss_kb(),
        tasks=len(asyncio.all_tasks()),
        threads=threads(),
        descriptors=descriptors(),
        heard_s=tuple(ears.heard_s),
    )


def _row(look: Look) -> Row:
    return {
        "at_s": round(look.at_s),
        "rss_kb": round(look.rss_kb),
        "tasks": look.tasks,
        "threads": look.threads,
        "descriptors": look.descriptors,
        "heard_s_least": min(look.heard_s, default=0.0),
    }


def wrong_in(summary: Row) -> list[str]:
    """Say what of a summary is not as it has to be."""
    wrong = [
        f"{key}: {summary[key]}, at most {most} is right"
        for key, most in (
            ("rss_farthest_kb", FLAT_KB),
            ("tasks_growth", 0),
            ("threads_growth", 0),
            ("descriptors_growth", 0),
            ("tasks_left", 0),
            ("threads_left", 1),
            ("descriptors_left", 0),
            ("dropped_s", 0),
            ("errors", 0),
        )
        if float(str(summary[key])) > most
    ]
    # Not more than is on its way or waits for the rest of its frame.
    sent, packets, received_s = (
        float(str(summary[key])) for key in ("sent", "packets", "received_s")
    )
    if packets < 0.99 * sent:
        wrong.append(f"{packets:g} of {sent:g} packets arrived")
    if received_s < 0.99 * packets * PACKET_S:
        wrong.append(f"{received_s:g} s came out of {packets:g} packets")
    return wrong


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak_receive",
        description="Many speakers for a long time.",
    )
    parser.add_argument("--speakers", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--loss", type=float, default=0.01, help="share of packets")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Soak and print; returns 1 if something is wrong."""
    options = _parse(arguments)
    only_loopback()
    job = SoakJob(speakers=options.speakers, minutes=options.minutes, loss=options.loss)
    rows, summary = anyio.run(soak, job)
    return conclude(rows, summary, wrong_in(summary), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
