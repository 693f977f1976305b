# SPDX-License-Identifier: AGPL-3.0-or-later
"""The command `live-transcription demo`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import typer
from attrs import evolve

from kyutai_stream import KyutaiStreamError
from spreed_signaling import SignalingError
from spreed_signaling.testing.real import RealServersUnavailable, ServerStartFailed

from .cast import ShowCaption
from .clips import Clip, ClipError, bundled_clips, load_clips
from .director import Performance, Timing, perform
from .options import (
    AudioFiles,
    BackendChoice,
    DemoOptions,
    JsonChoice,
    PageChoice,
    Seconds,
    Signaling,
    SignalingChoice,
    SttUrl,
    Talkers,
    Voice,
    VoiceChoice,
)
from .output import DemoStatus, Output
from .page import CaptionPage
from .recogniser import Recogniser, choose_recogniser
from .report import Collector
from .screen import choose_output
from .stage import DemoFailed, Stage, open_stage
from .tones import tone_clips

__all__ = ["run"]

_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells expect it."""

DEMO_BACKEND = "pocketsphinx"

_COLD_START_S = 180.0
"""A container with a GPU may have to be started; the backends wait 120 s."""

_BEHIND_S = 90.0
"""A recogniser that hears tones may be a model on a busy CPU."""


def run(argv: Sequence[str]) -> int:
    """Run the demo.

    Args:
        argv: Arguments after `demo`.

    Returns:
        The exit status: 0 only if every talker got at least one final caption; with
        tones, only if the finals are what was said.
    """
    app = typer.Typer(add_completion=False)
    app.command(help="Show speech becoming captions, on this machine alone.")(_command)
    try:
        app(list(argv), prog_name="live-transcription demo")
    except SystemExit as exc:
        # typer leaves this way, also for --help and wrong arguments.
        return exc.code if isinstance(exc.code, int) else 0
    return 0


def _command(
    signaling: SignalingChoice = Signaling.AUTO,
    backend: BackendChoice = DEMO_BACKEND,
    stt_url: SttUrl = None,
    voice: VoiceChoice = Voice.SPEECH,
    audio: AudioFiles = None,
    talkers: Talkers = 1,
    seconds: Seconds = None,
    page: PageChoice = True,
    json: JsonChoice = False,
) -> None:
    if audio and voice is Voice.TONES:
        raise typer.BadParameter("--voice tones and --audio exclude each other")
    options = DemoOptions(
        signaling=signaling,
        backend=backend,
        stt_url=stt_url,
        voice=voice,
        audio=tuple(audio or ()),
        talkers=talkers,
        seconds=seconds,
        page=page,
    )
    output = choose_output(
        as_json=json,
        stdout=sys.stdout,
        stderr=sys.stderr,
        no_color=bool(os.environ.get("NO_COLOR")),
    )
    with output:
        status = anyio.run(_guarded, options, output)
    raise typer.Exit(status)


async def _guarded(options: DemoOptions, output: Output) -> int:
    """Run the demo; Ctrl-C and failures end it in order, with a reason."""
    status = _INTERRUPTED
    async with anyio.create_task_group() as tasks:

        async def watch_signals() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    tasks.cancel_scope.cancel()
                    return

        tasks.start_soon(watch_signals)
        try:
            status = await _demo(options, output)
        except RealServersUnavailable as exc:
            status = 1
            output.error(f"{exc}\nUse --signaling embedded to do without.")
        except (
            ClipError,
            DemoFailed,
            KyutaiStreamError,
            ServerStartFailed,
            SignalingError,
        ) as exc:
            status = 1
            output.error(str(exc))
        tasks.cancel_scope.cancel()
    return status


async def _demo(options: DemoOptions, output: Output) -> int:
    recogniser = choose_recogniser(options.backend, options.stt_url, os.environ)
    tones = options.voice is Voice.TONES
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="live-transcription-"))
        clips = _choose_clips(options, Path(folder))
        known = recogniser.transcribes
        collector = Collector(
            {clip.name: clip.text if known else None for clip in clips}, exact=tones
        )
        page = None
        if options.page:
            page = CaptionPage(people=[clip.name for clip in clips])
            await stack.enter_async_context(page)
        stage = await stack.enter_async_context(
            open_stage(
                options.signaling.value,
                options.backend,
                recogniser.environment,
                output.step,
            )
        )
        _announce(recogniser, stage, page, output)
        performance = await perform(
            stage,
            clips,
            _shows(collector, output, page),
            step=output.step,
            on_voice=lambda name, now: collector.voice_published(name, now=now),
            timing=_timing(options, recogniser),
            complete=collector.complete,
        )
    return _conclude(options, stage, performance, collector, output)


def _shows(
    collector: Collector, output: Output, page: CaptionPage | None
) -> ShowCaption:
    """Return what takes each caption to where it is seen and counted."""

    def show(speaker: str, text: str, final: bool, lang: str) -> None:
        now = anyio.current_time()
        record = collector.caption(
            speaker=speaker, text=text, final=final, lang=lang, now=now
        )
        output.caption(record)
        if page is not None:
            page.show(speaker, text, final, lang)

    return show


def _timing(options: DemoOptions, recogniser: Recogniser) -> Timing:
    timing = Timing(seconds=options.seconds)
    if recogniser.remote:
        timing = evolve(timing, listen_s=_COLD_START_S)
    if options.voice is Voice.TONES:
        timing = evolve(timing, complete_s=_BEHIND_S)
    return timing


def _announce(
    recogniser: Recogniser,
    stage: Stage,
    page: CaptionPage | None,
    output: Output,
) -> None:
    """Say what runs, in the terminal and on the page."""
    status = DemoStatus(
        signaling=stage.server.kind,
        hpb_version=stage.server.version,
        backend=recogniser.name,
        note=recogniser.note,
        page_url=None if page is None else page.url,
    )
    output.status(status)
    if page is not None:
        page.set_status(f"{status.servers()}; {status.recogniser()}")


def _choose_clips(options: DemoOptions, folder: Path) -> tuple[Clip, ...]:
    if options.voice is Voice.TONES:
        return tone_clips(folder, options.talkers)
    if options.audio:
        return load_clips(options.audio)
    return bundled_clips()[: options.talkers]


def _conclude(
    options: DemoOptions,
    stage: Stage,
    performance: Performance,
    collector: Collector,
    output: Output,
) -> int:
    for name in performance.cut_short:
        collector.set_reference(name, None)
    output.summary(
        collector.summary(
            signaling=stage.server.kind,
            hpb_version=stage.server.version,
            backend=options.backend,
            transcribe_http_ms=performance.transcribe_http_ms,
        )
    )
    silent = collector.without_final()
    if silent:
        output.error(
            f"no final caption came for {', '.join(silent)}; the ExApp's last words:\n"
            + "\n".join(stage.exapp_log)
        )
        return 1
    wrong = collector.inexact()
    for name, (said, heard) in wrong.items():
        output.error(f"{name} said: {said}\nand was heard: {heard}")
    return 1 if wrong else 0
