# SPDX-License-Identifier: MIT
"""A soak: many people for many minutes, looked at whenever all of them rest."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter

import anyio
from attrs import define, frozen

from kyutai_stream.backends.moshi_server import MoshiServerBackend

from ._figures import Row, descriptors, rss_kb, threads
from ._soak_people import Person, Score
from ._soak_server import Accident, far_server, near_server

__all__ = ["SoakJob", "soak", "wrong_in"]

WARM_UP_S = 240.0
"""A session remembers when audio came for 160 s of it: before that it grows."""

GROWN_OBJECTS = 5


@frozen(kw_only=True)
class SoakJob:
    """What to do."""

    sessions: int
    minutes: float
    round_s: float = 60.0
    """Everybody rests after so many seconds, to be looked at."""
    accident_every_s: float = 6.0
    """Seconds from one accident to the next."""
    real: bool = False
    """Real time, with the server in another process."""
    trace: bool = False
    """Find out where memory that grows comes from; slow."""


@define(kw_only=True)
class Look:
    """The process while everybody rests."""

    at_s: float
    rss_kb: float
    traced_kb: float
    objects: int
    kinds: Counter[str]
    tasks: int
    descriptors: int
    threads: int

    def as_row(self, score: Score) -> Row:
        """For printing."""
        return {
            "at_s": round(self.at_s),
            "rss_kb": round(self.rss_kb),
            "traced_kb": round(self.traced_kb),
            "objects": self.objects,
            "tasks": self.tasks,
            "descriptors": self.descriptors,
            "threads": self.threads,
            "words_said": score.said,
            "words_right": score.right,
            "gaps": score.gaps,
            "reconnects": score.reconnects,
            "releases": score.releases,
        }


async def soak(job: SoakJob) -> tuple[list[Row], Row, list[str]]:
    """Run it.

    Returns:
        A row for each rest, a row that sums up, and what is wrong.
    """
    score = Score()
    place = far_server if job.real else near_server
    looks: list[Look] = []
    rows: list[Row] = []
    before = _look(0.0)
    async with place(job.sessions) as (url, accident):
        people = [
            Person(number, MoshiServerBackend(url=url), score)
            for number in range(job.sessions)
        ]
        async with anyio.create_task_group() as tasks:
            for person in people:
                tasks.start_soon(person.run)
            began = anyio.current_time()
            while (passed_s := anyio.current_time() - began) < job.minutes * 60:
                await _round(people, accident, job)
                looks.append(_look(anyio.current_time() - began))
                rows.append(looks[-1].as_row(score))
                if job.trace and len(looks) == 1:
                    tracemalloc.start(6)
            tasks.cancel_scope.cancel()
    await anyio.sleep(1.0)
    after = _look(passed_s)
    summary = _summary(job, looks, before, after, score)
    return rows, summary, wrong_in(summary, score)


async def _round(people: list[Person], accident: Accident, job: SoakJob) -> None:
    until = anyio.current_time() + job.round_s
    for person in people:
        person.begin_round(until)
    every_s = job.accident_every_s
    # None in the last seconds: a look compares sessions that have come to rest.
    while anyio.current_time() + every_s < until:
        await anyio.sleep(every_s)
        await accident()
    for person in people:
        await person.rested.wait()


def _look(at_s: float) -> Look:
    memory_kb = rss_kb()
    kinds = Counter(type(one).__qualname__ for one in gc.get_objects())
    return Look(
        at_s=at_s,
        rss_kb=memory_kb,
        traced_kb=tracemalloc.get_traced_memory()[0] / 1000,
        objects=sum(kinds.values()),
        kinds=kinds,
        tasks=len(asyncio.all_tasks()),
        descriptors=descriptors(),
        threads=threads(),
    )


def _summary(
    job: SoakJob, looks: list[Look], before: Look, after: Look, score: Score
) -> Row:
    warm = [look for look in looks if look.at_s >= WARM_UP_S] or looks
    first, last = warm[0], warm[-1]
    late = looks[(len(looks) - 1) * 2 // 3]
    grown = (last.kinds - first.kinds).most_common(GROWN_OBJECTS)
    return {
        "sessions": job.sessions,
        "minutes": round(last.at_s / 60, 2),
        "words_said": score.said,
        "words_right": score.right,
        "gaps": score.gaps,
        "late_flushes": score.unflushed,
        "reconnects": score.reconnects,
        "compared_minutes": round((last.at_s - first.at_s) / 60, 2),
        "rss_growth_percent": (last.rss_kb / first.rss_kb - 1) * 100,
        "rss_late_growth_percent": (last.rss_kb / late.rss_kb - 1) * 100,
        "objects_growth_percent": (last.objects / first.objects - 1) * 100,
        "grown": ", ".join(f"{name} +{count}" for name, count in grown),
        "tasks_growth": last.tasks - first.tasks,
        "descriptors_growth": last.descriptors - first.descriptors,
        "threads_growth": last.threads - first.threads,
        "tasks_left": after.tasks - before.tasks,
        "descriptors_left": after.descriptors - before.descriptors,
        "threads_left": after.threads - before.threads,
    }


def wrong_in(summary: Row, score: Score) -> list[str]:
    """Say what of a summary is not as it has to be."""
    wrong = list(score.wrong)
    if score.right != score.said:
        wrong.append(f"{score.said - score.right} of {score.said} words are not right")
    for key in ("gaps", "late_flushes", "tasks_left", "descriptors_left"):
        if summary[key]:
            wrong.append(f"{key}: {summary[key]}")
    for key, most in (
        # One restart with a backlog for everybody leaves the allocator with pages
        # that it keeps; what leaks goes on growing in the last third, too.
        ("rss_growth_percent", 25.0),
        ("rss_late_growth_percent", 5.0),
        ("objects_growth_percent", 3.0),
        ("threads_left", 1),
    ):
        if float(str(summary[key])) > most:
            wrong.append(f"{key}: {summary[key]}, at most {most} is right")
    return wrong
