# SPDX-License-Identifier: AGPL-3.0-or-later
"""The plot of the demo: who comes when, and when it is over.

Everybody joins the call, the reader presses CC, and only when the ExApp hears all
talkers do they begin: what was said before captions were on is nobody's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
from attrs import field, frozen

from .cast import Reader, ShowCaption, Talker
from .clips import Clip
from .stage import DemoFailed, Stage

__all__ = ["Performance", "Timing", "perform"]

_POLL_S = 0.1


@frozen(kw_only=True)
class Timing:
    """Limits of a performance, in seconds."""

    seconds: float | None = None
    """Longest time of speech; None lets everybody finish."""
    assemble_s: float = 20.0
    """Everybody has to be in the call within this time."""
    listen_s: float = 20.0
    """The ExApp has to hear all talkers within this time."""
    quiet_s: float = 2.5
    """No new caption for this long after the last word: it is over."""
    settle_s: float = 10.0
    """Longest wait for that."""
    complete_s: float = 0.0
    """Longest wait, before that, for captions that are known to be missing."""
    last_words_s: float = 1.0
    """Wait for finals after captions were switched off."""


@frozen(kw_only=True)
class Performance:
    """What came of it."""

    transcribe_http_ms: float
    """How long the ExApp took to answer the CC button, milliseconds."""
    cut_short: tuple[str, ...]
    """Talkers who could not finish: their score would mean nothing."""


@frozen(kw_only=True)
class _Play:
    stage: Stage
    talkers: Sequence[Talker]
    reader: Reader
    timing: Timing
    complete: Callable[[], bool] = field(repr=False)
    step: Callable[[str], None] = field(repr=False)


async def perform(
    stage: Stage,
    clips: Sequence[Clip],
    show: ShowCaption,
    *,
    step: Callable[[str], None],
    on_voice: Callable[[str, float], None],
    timing: Timing,
    complete: Callable[[], bool] = lambda: True,
) -> Performance:
    """Let the talkers speak their clips to a reader who pressed CC.

    Cancellation-safe: everybody leaves.

    Args:
        stage: Where it happens.
        clips: One talker for each.
        show: Called with every caption the reader gets.
        step: Called with what is being done, for people.
        on_voice: Called with a talker's name and the event loop's time when the
            first voiced sample went out; before each caption, for all who spoke.
        timing: Limits.
        complete: Says whether all that was said has become captions, where that is
            known.

    Raises:
        DemoFailed: If captions cannot start, with the reason.
    """
    talkers = [
        Talker(clip=clip, position=position) for position, clip in enumerate(clips)
    ]

    def note_and_show(speaker: str, text: str, final: bool, lang: str) -> None:
        for talker in talkers:
            if talker.audio.first_voiced_at is not None:
                on_voice(talker.name, talker.audio.first_voiced_at)
        show(speaker, text, final, lang)

    play = _Play(
        stage=stage,
        talkers=talkers,
        reader=Reader(stage, note_and_show),
        timing=timing,
        complete=complete,
        step=step,
    )
    return await _attended(play)


async def _attended(play: _Play) -> Performance:
    """Run the play with everybody in the call; then all leave."""
    outcome: list[Performance] = []
    failures: list[Exception] = []
    async with anyio.create_task_group() as tasks:

        async def attend() -> None:
            # One error as it is, not wrapped in the group of everybody's tasks.
            try:
                outcome.append(await _run(play))
            except Exception as exc:
                failures.append(exc)
            tasks.cancel_scope.cancel()

        for talker in play.talkers:
            tasks.start_soon(talker.attend, play.stage)
        tasks.start_soon(play.reader.attend)
        tasks.start_soon(attend)
    if failures:
        raise failures[0]
    return outcome[0]


async def _run(play: _Play) -> Performance:
    play.step("everybody joins the call")
    await _assemble(play)
    took_ms = await play.reader.press_cc(enable=True)
    play.step(f"captions switched on, answered in {took_ms:.0f} ms")
    await _wait_until_heard(play)
    play.step("listening")
    for talker in play.talkers:
        talker.audio.resume()
    cut_short = await _let_speak(play)
    if not cut_short:
        await _wait_until_complete(play)
    await _wait_for_quiet(play)
    await play.reader.press_cc(enable=False)
    await anyio.sleep(play.timing.last_words_s)
    return Performance(transcribe_http_ms=took_ms, cut_short=cut_short)


async def _assemble(play: _Play) -> None:
    with anyio.move_on_after(play.timing.assemble_s):
        await play.reader.ready.wait()
        for talker in play.talkers:
            await talker.ready.wait()
        return
    missing = [one.name for one in play.talkers if not one.ready.is_set()]
    raise DemoFailed(
        f"not everybody got into the call: {', '.join(missing) or 'the reader'}"
    )


async def _wait_until_heard(play: _Play) -> None:
    """Wait until the ExApp has a working recogniser for every talker."""
    status: object = None
    with anyio.move_on_after(play.timing.listen_s):
        while True:
            report = await play.stage.exapp_status()
            rooms = report.get("rooms") or [{}]
            status = rooms[0]
            speakers = rooms[0].get("speakers", [])
            for speaker in speakers:
                if str(speaker.get("state", "")).startswith("failed"):
                    # What may go by itself, a session waits for.
                    raise DemoFailed(f"captions failed: {speaker.get('last_error')}")
            ready = sum(speaker.get("state") == "ready" for speaker in speakers)
            if ready >= len(play.talkers):
                return
            await anyio.sleep(_POLL_S)
    raise DemoFailed(f"the ExApp does not hear all talkers; it says: {status}")


async def _let_speak(play: _Play) -> tuple[str, ...]:
    """Return who was still speaking when the time was over."""
    with anyio.move_on_after(play.timing.seconds):
        for talker in play.talkers:
            await talker.audio.wait_finished()
        return ()
    late = [talker for talker in play.talkers if not talker.audio.finished]
    for talker in late:
        talker.audio.paused = True
    return tuple(talker.name for talker in late)


async def _wait_until_complete(play: _Play) -> None:
    """Give a recogniser that is behind the time it needs."""
    with anyio.move_on_after(play.timing.complete_s):
        # Captions come to the reader, whom this need not be told by.
        while not play.complete():  # noqa: ASYNC110
            await anyio.sleep(_POLL_S)


async def _wait_for_quiet(play: _Play) -> None:
    spoken_at = anyio.current_time()
    with anyio.move_on_after(play.timing.settle_s):
        while True:
            last = max(spoken_at, play.reader.last_caption_at or 0.0)
            quiet_at = last + play.timing.quiet_s
            now = anyio.current_time()
            if now >= quiet_at:
                return
            await anyio.sleep(quiet_at - now)
