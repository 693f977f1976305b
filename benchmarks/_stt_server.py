# SPDX-License-Identifier: MIT
"""A fake moshi-server in a process of its own, so that its CPU is not the client's.

`python -m benchmarks._stt_server SLOTS` prints its address and serves until its
standard input ends, so it never outlives who started it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt

from kyutai_stream.testing.moshi_server import FakeMoshiServer, Model
from kyutai_stream.testing.tones import HeardWord

__all__ = ["server_process"]

ROOT = Path(__file__).parents[1]
WORD_S = 0.4
SAID = "lorem ipsum dolor sit amet consetetur sadipscing elitr".split()


class Talker:
    """Says a word in every 0.4 s, whatever is in the audio; costs next to nothing."""

    speaking = False

    def __init__(self) -> None:
        self._fed_s = 0.0
        self._said = 0

    def push(self, samples: npt.NDArray[np.float32]) -> Sequence[HeardWord]:
        self._fed_s += len(samples) / 24_000
        words = []
        while (self._said + 1) * WORD_S <= self._fed_s:
            start = self._said * WORD_S
            text = SAID[self._said % len(SAID)]
            words.append(HeardWord(text=text, start=start, end=start + WORD_S))
            self._said += 1
        return words


@contextlib.contextmanager
def server_process(slots: int) -> Iterator[str]:
    """Start a server; yields its address."""
    command = [sys.executable, "-m", "benchmarks._stt_server", str(slots)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the fake server did not start")
            yield url
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


async def _serve(slots: int) -> None:
    model = Model(batch_size=slots)
    async with FakeMoshiServer(model, listen=Talker, speed=3.0) as server:
        print(server.url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(_serve, int(sys.argv[1]))
