# SPDX-License-Identifier: MIT
"""The measured side of the benchmark through Janus, in a process of its own.

`python -m benchmarks._receive_janus_client PATH` reads one line of JSON (servers,
times), prints `ready` when everybody is connected, and at the end its figures.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from contextlib import aclosing
from typing import Any

import anyio
from attrs import define, field

from spreed_signaling.media import Call, Speaker
from spreed_signaling.testing.real import own_host_addresses

from ._figures import rss_kb
from ._receive_client import Ear, listen, say, with_resample_poly, with_soxr
from ._receive_fitting import TakeFrame, fit
from ._receive_janus import join, take_speakers

__all__ = ["main"]

CONNECT_S = 60


@define
class Listener:
    """One speaker's consumer, and what reaches its receiver."""

    name: str
    speaker: Speaker
    ear: Ear = field(factory=Ear)
    arrived: int = 0
    """Packets that were not lost."""

    def fit(self, call: Call, path: str, loss: float) -> None:
        """Lose packets and take the path; before `run`."""
        # The same ones on every path: what comes first is number 0 for everybody.
        rng = random.Random(self.name)

        def keep(payload: bytes) -> bool:
            if rng.random() < loss:
                return False
            self.arrived += 1
            return True

        fit(call, self.speaker, keep, self._stock(path))

    def _stock(self, path: str) -> TakeFrame | None:
        if path == "ours":
            return None
        take = with_soxr if path == "stock_soxr" else with_resample_poly
        return take(self.ear)

    async def run(self) -> None:
        """Hear until cancelled."""
        async with aclosing(self.speaker.audio()) as audio:
            async for chunk in audio:
                self.ear.hear(chunk.samples)
                self.ear.concealed_ms += chunk.concealed_ms


async def measure(path: str, job: dict[str, Any]) -> dict[str, Any]:
    """Listen to everybody and measure this process."""
    before_kb = rss_kb()
    bot = join(job["url"], job["backend_url"], job["secret"])
    async with bot as call, anyio.create_task_group() as tasks:
        speakers = await take_speakers(call, job["talkers"])
        listeners = [
            Listener(job["talkers"][speaker.session_id], speaker)
            for speaker in speakers
        ]
        for one in listeners:
            one.fit(call, path, job["loss"])
            tasks.start_soon(one.run)
        with anyio.fail_after(CONNECT_S):
            while not all(one.stats.connected for one in speakers):  # noqa: ASYNC110  # no event
                await anyio.sleep(0.05)
        figures = await listen(job, [one.ear for one in listeners], before_kb)
        tasks.cancel_scope.cancel()
    return figures | {
        "names": [one.name for one in listeners],
        "arrived": [one.arrived for one in listeners],
    }


def main() -> None:
    """Measure one path."""
    path = sys.argv[1]
    if path == "stock_soxr":
        # Its memory is nobody's stream.
        importlib.import_module("soxr")
    job = json.loads(sys.stdin.readline())
    with own_host_addresses(job["host_address"]):
        say(anyio.run(measure, path, job))


if __name__ == "__main__":
    main()
