# SPDX-License-Identifier: MIT
"""Whether speech keeps its meaning: word error rates behind a real Janus.

Talkers (flite voices) publish through the real signaling server and Janus; bots
subscribe to them, each losing other packets right in front of the receiver, and
pocketsphinx writes down what they heard. The same packets are lost on every path.

    python -m benchmarks.receive_wer
    python -m benchmarks.receive_wer --json --paths ours --seeds 1

Paths: `direct` (the same packets decoded one after the other, no network), `ours`,
and those of `benchmarks.receive_path` (soxr is no dependency of ours: without it
`stock_soxr` is left out). What `ours` announces as missing becomes zeros.

Keys of the rows:

- `fec`: whether packets carry the one before them once more.
- `loss`: share of packets lost in front of the receiver.
- `words`, `errors`: of all talkers and seeds together.
- `wer`, `beyond_direct`: errors by words, and how much more than `direct` has.
- `heard_share`: samples that reached the recogniser, by those of `direct`.
- `network_lost`: packets that did not even come so far; 0, unless the machine is
  overloaded.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing

import anyio
import numpy as np
from anyio.abc import TaskGroup
from attrs import define, field, frozen

from kyutai_stream.cli._scoring import WordErrors
from spreed_signaling.media import Call, Speaker

from ._figures import Row, show
from ._receive_case import PATHS
from ._receive_fitting import TakeFrame, fit
from ._receive_janus import (
    EncodedTrack,
    JanusCall,
    join,
    leave_out_missing,
    open_call,
    take_speakers,
)
from ._receive_sender import Loss
from ._receive_wer_speech import (
    CLIPS,
    Floats,
    Recogniser,
    Speech,
    decode,
    load_speech,
)

__all__ = ["Condition", "Hearing", "count_errors_of", "listen", "main"]

STEP = 480
SETTLE_S = 1.5
"""aiortc's path hands out up to half a second after the last packet."""

CONNECT_S = 30.0


@frozen
class Condition:
    """What one bot loses: packets by their number, the same for all talkers."""

    loss: float
    seed: int = 0

    def lost(self, count: int) -> frozenset[int]:
        """Numbers of the lost among so many packets."""
        return Loss(self.loss).pick(random.Random(self.seed), count)


@define
class Hearing:
    """What one bot heard of one talker."""

    speech: Speech
    condition: Condition
    speaker: Speaker
    lost: int = 0
    """Packets lost on purpose."""
    passed: int = 0
    """Packets that arrived."""
    _first: int | None = None
    _parts: list[Floats] = field(factory=list, repr=False)

    def fit(self, call: Call, path: str) -> None:
        """Lose packets and take the path; before `run`."""
        numbers = {one: n for n, one in enumerate(self.speech.payloads)}
        lost = self.condition.lost(len(numbers))

        def keep(payload: bytes) -> bool:
            number = numbers[payload]
            if number in lost:
                self.lost += 1
                return False
            self.passed += 1
            if self._first is None:
                self._first = number
            return True

        fit(call, self.speaker, keep, self._stock(path))

    def _stock(self, path: str) -> TakeFrame | None:
        if path == "ours":
            return None
        # Loads scipy.
        from ._receive_wer_stock import keep_all

        return keep_all(path, self._parts)

    async def run(self) -> None:
        """Hear until cancelled."""
        async with aclosing(self.speaker.audio()) as audio:
            async for chunk in audio:
                self._parts += [np.zeros(chunk.gap_samples, np.float32), chunk.samples]

    @property
    def heard(self) -> Floats:
        """From the first packet that was sent on, 24 kHz mono."""
        quiet = np.zeros((self._first or 0) * STEP, np.float32)
        return np.concatenate([quiet, *self._parts])

    @property
    def network_lost(self) -> int:
        """Packets lost on the way, not on purpose."""
        return len(self.speech.payloads) - self.lost - self.passed


async def listen(
    path: str, speeches: Sequence[Speech], conditions: Sequence[Condition]
) -> list[Hearing]:
    """Let everybody talk once while a bot for each condition listens.

    Raises:
        RealServersUnavailable: If this machine cannot run the real servers.
        TimeoutError: If somebody does not get connected.
    """
    tracks = {speech.name: EncodedTrack(speech.payloads) for speech in speeches}
    hearings: list[Hearing] = []
    async with open_call(tracks) as janus, AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for condition in conditions:
            hearings += await _attend(stack, tasks, janus, path, speeches, condition)
        with anyio.fail_after(CONNECT_S):
            while not all(one.speaker.stats.connected for one in hearings):  # noqa: ASYNC110  # no event
                await anyio.sleep(0.05)
        for track in tracks.values():
            track.begin()
        for track in tracks.values():
            await track.finished.wait()
        await anyio.sleep(SETTLE_S)
        tasks.cancel_scope.cancel()
    return hearings


async def _attend(
    stack: AsyncExitStack,
    tasks: TaskGroup,
    janus: JanusCall,
    path: str,
    speeches: Sequence[Speech],
    condition: Condition,
) -> list[Hearing]:
    bot = join(janus.url, janus.backend_url, janus.secret)
    call = await stack.enter_async_context(bot)
    named = {speech.name: speech for speech in speeches}
    speakers = await take_speakers(call, janus.talkers)
    hearings = [
        Hearing(named[janus.talkers[speaker.session_id]], condition, speaker)
        for speaker in speakers
    ]
    for hearing in hearings:
        hearing.fit(call, path)
        tasks.start_soon(hearing.run)
    return hearings


async def count_errors_of(
    recogniser: Recogniser, heard: Sequence[tuple[Speech, Floats]]
) -> WordErrors:
    """Add up the errors of several talkers."""
    found = [WordErrors(words=0, substituted=0, deleted=0, inserted=0)]

    async def count(speech: Speech, audio: Floats) -> None:
        found.append(await recogniser.errors(speech, audio))

    async with anyio.create_task_group() as tasks:
        for speech, audio in heard:
            tasks.start_soon(count, speech, audio)
    return sum(found[1:], found[0])


async def measure(
    fec: bool, paths: Sequence[str], conditions: Sequence[Condition]
) -> list[Row]:
    """All rows for one way of encoding."""
    speeches = [load_speech(path, fec=fec) for path in sorted(CLIPS.glob("*.wav"))]
    recogniser = Recogniser()
    straight = {speech.name: decode(speech.payloads) for speech in speeches}
    direct = await count_errors_of(
        recogniser, [(one, straight[one.name]) for one in speeches]
    )
    rows: list[Row] = [_row("direct", fec, 0.0, direct, direct)]
    for path in paths:
        hearings = await listen(path, speeches, conditions)
        for loss in dict.fromkeys(condition.loss for condition in conditions):
            these = [one for one in hearings if one.condition.loss == loss]
            heard = [(one.speech, one.heard) for one in these]
            errors = await count_errors_of(recogniser, heard)
            row = _row(path, fec, loss, errors, direct)
            rows.append({**row, **_completeness(these, straight)})
            print(f"{path}, loss {loss:g}, {fec=}", file=sys.stderr)
    return rows


def _row(
    path: str, fec: bool, loss: float, errors: WordErrors, direct: WordErrors
) -> dict[str, object]:
    wer, least = errors.rate or 0.0, direct.rate or 0.0
    return {
        "path": path,
        "fec": fec,
        "loss": loss,
        "words": errors.words,
        "errors": errors.errors,
        "wer": wer,
        "beyond_direct": wer - least,
        "heard_share": 1.0,
        "network_lost": 0,
    }


def _completeness(
    hearings: Sequence[Hearing], straight: Mapping[str, Floats]
) -> dict[str, object]:
    heard = sum(len(one.heard) for one in hearings)
    whole = sum(len(straight[one.speech.name]) for one in hearings)
    return {
        "heard_share": heard / whole,
        "network_lost": sum(one.network_lost for one in hearings),
    }


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receive_wer",
        description="Word error rates of what is heard through a real Janus.",
    )
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=PATHS)
    parser.add_argument("--loss", type=float, default=0.05, help="of the lossy bots")
    parser.add_argument("--seeds", type=int, default=2, help="lossy bots")
    parser.add_argument(
        "--fec", nargs="+", default=["yes", "no"], choices=["yes", "no"]
    )
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    return parser.parse_args(arguments)


async def _run(options: argparse.Namespace) -> None:
    lossy = [Condition(options.loss, 1 + seed) for seed in range(options.seeds)]
    rows: list[Row] = []
    for fec in options.fec:
        rows += await measure(fec == "yes", options.paths, [Condition(0.0), *lossy])
    show(rows, as_json=options.json)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parse(arguments)
    leave_out_missing(options.paths)
    anyio.run(_run, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
