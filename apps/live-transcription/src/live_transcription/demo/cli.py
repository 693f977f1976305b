# SPDX-License-Identifier: AGPL-3.0-or-later
"""The command `live-transcription demo`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import anyio
import typer
from attrs import frozen

from kyutai_stream import KyutaiStreamError, get_backend
from spreed_signaling import SignalingError
from spreed_signaling.testing.real import RealServersUnavailable, ServerStartFailed

from .clips import Clip, ClipError, bundled_clips, load_clips
from .director import Performance, Timing, perform
from .page import CaptionPage
from .report import Collector
from .screen import DemoStatus, Output, choose_output
from .stage import DemoFailed, Stage, open_stage

__all__ = ["DemoOptions", "run"]

_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells expect it."""

DEMO_BACKEND = "pocketsphinx"


class Signaling(StrEnum):
    """Which signaling server to use."""

    AUTO = "auto"
    REAL = "real"
    EMBEDDED = "embedded"


@frozen(kw_only=True)
class DemoOptions:
    """What was asked for on the command line."""

    signaling: Signaling
    backend: str
    stt_url: str | None
    audio: tuple[Path, ...]
    talkers: int
    seconds: float | None
    page: bool


SignalingChoice = Annotated[
    Signaling,
    typer.Option(help="Signaling server; auto is real where it can be had."),
]
BackendChoice = Annotated[
    str, typer.Option(help="Speech-to-text backend of the ExApp.")
]
SttUrl = Annotated[str | None, typer.Option(help="Where that backend is (LT_STT_URL).")]
AudioFiles = Annotated[
    list[Path] | None,
    typer.Option(
        help="Speech of one talker; repeatable. A .txt beside it is its text."
    ),
]
Talkers = Annotated[int, typer.Option(min=1, max=4, help="Number of bundled voices.")]
Seconds = Annotated[
    float | None, typer.Option(min=1, help="Stop the speech after this time.")
]
PageChoice = Annotated[
    bool, typer.Option("--page/--no-page", help="Serve a local caption page.")
]
JsonChoice = Annotated[
    bool, typer.Option("--json", help="JSON Lines on standard output.")
]


def run(argv: Sequence[str]) -> int:
    """Run the demo.

    Args:
        argv: Arguments after `demo`.

    Returns:
        The exit status: 0 only if every talker got at least one final caption.
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
    audio: AudioFiles = None,
    talkers: Talkers = 1,
    seconds: Seconds = None,
    page: PageChoice = True,
    json: JsonChoice = False,
) -> None:
    options = DemoOptions(
        signaling=signaling,
        backend=backend,
        stt_url=stt_url,
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
    clips = _choose_clips(options)
    backend = get_backend(options.backend) if options.stt_url is None else None
    recognises = backend is None or backend.capabilities.transcribes
    collector = Collector({one.name: one.text if recognises else None for one in clips})
    environment = dict(os.environ)
    if options.stt_url is not None:
        environment["LT_STT_URL"] = options.stt_url
    async with AsyncExitStack() as stack:
        page = None
        if options.page:
            page = CaptionPage(people=[clip.name for clip in clips])
            await stack.enter_async_context(page)
        stage = await stack.enter_async_context(
            open_stage(
                options.signaling.value, options.backend, environment, output.step
            )
        )
        note = "" if backend is None else backend.description
        _announce(options, stage, note, page, output)

        def show(speaker: str, text: str, final: bool, lang: str) -> None:
            now = anyio.current_time()
            record = collector.caption(
                speaker=speaker, text=text, final=final, lang=lang, now=now
            )
            output.caption(record)
            if page is not None:
                page.show(speaker, text, final, lang)

        performance = await perform(
            stage,
            clips,
            show,
            step=output.step,
            on_voice=lambda name, now: collector.voice_published(name, now=now),
            timing=Timing(seconds=options.seconds),
        )
    return _conclude(options, stage, performance, collector, output)


def _announce(
    options: DemoOptions,
    stage: Stage,
    note: str,
    page: CaptionPage | None,
    output: Output,
) -> None:
    """Say what runs, in the terminal and on the page."""
    status = DemoStatus(
        signaling=stage.server.kind,
        hpb_version=stage.server.version,
        backend=options.backend,
        note=note,
        page_url=None if page is None else page.url,
    )
    output.status(status)
    if page is not None:
        page.set_status(f"{status.servers()}; {status.recogniser()}")


def _choose_clips(options: DemoOptions) -> tuple[Clip, ...]:
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
    return 0
