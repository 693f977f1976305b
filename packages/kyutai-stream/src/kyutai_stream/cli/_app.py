# SPDX-License-Identifier: MIT
"""Commands and options of the program."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..audio import AudioFormat
from ..errors import ConfigError
from ..transcribe import OpenSource, file_source, microphone, raw_source
from ..transcribe.files import STDIN
from ._failures import explained, run
from ._options import (
    AsJson,
    Channels,
    Device,
    File,
    Language,
    Mic,
    Outputs,
    Plain,
    Rate,
    Raw,
    Speaker,
    Strict,
    chooses_backend,
)
from ._settings import BackendChoice

__all__ = ["app"]

app = typer.Typer(
    name="kyutai-stream",
    help="Live speech-to-text: transcribe, look for trouble, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _common(
    debug: Annotated[
        bool, typer.Option(help="Log what happens, without speech.")
    ] = False,
) -> None:
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)


@app.command()
@chooses_backend
def transcribe(
    file: File = None,
    mic: Mic = False,
    *,
    choice: BackendChoice,
    language: Language = None,
    speaker: Speaker = "",
    pace: Annotated[
        float, typer.Option(help="1 as it was spoken, 0 as fast as possible.")
    ] = 0.0,
    output: Outputs = None,
    as_json: AsJson = False,
    plain: Plain = False,
    strict: Strict = False,
    raw: Raw = None,
    rate: Rate = 24_000,
    channels: Channels = 1,
    device: Device = None,
) -> None:
    """Print what is said in a file, on standard input or into the microphone.

    In a terminal: live captions. Piped: JSON Lines. Ctrl-C ends with the last words.
    """
    from ._screens import choose_screen
    from ._transcribe import Job, check_output
    from ._transcribe import transcribe as work

    with explained():
        format = _raw_format(raw, rate, channels)
        source = _source(file, mic=mic, device=device, format=format, pace=pace)
        for path in output or []:
            check_output(path)
        job = Job(
            source=source,
            backend=choice.build(),
            language=language,
            speaker=speaker,
            outputs=output or [],
            strict=strict,
        )
        screen = choose_screen(as_json=as_json, plain=plain)
    run(partial(work, job, screen))


def _source(
    file: str | None,
    *,
    mic: bool,
    device: str | None,
    format: AudioFormat | None,
    pace: float,
) -> OpenSource:
    if mic == (file is not None):
        raise ConfigError("name one of: a file, - for standard input, --mic")
    if mic:
        number = int(device) if device is not None and device.isdigit() else device
        return microphone(number)
    path = STDIN if file == "-" else file or ""
    if format is not None:
        return raw_source(path, format, pace=pace)
    return file_source(path, pace=pace)


def _raw_format(raw: str | None, rate: int, channels: int) -> AudioFormat | None:
    if raw is None:
        return None
    try:
        return AudioFormat(sample_rate=rate, channels=channels, encoding=raw)  # type: ignore[arg-type]  # checked by the class
    except ValueError as exc:
        raise ConfigError(
            "--raw is f32le or s16le, --rate 4000 to 384000, --channels 1 to 32"
        ) from exc


@app.command()
def backends(as_json: AsJson = False) -> None:
    """List the recognisers that are installed, and what is wrong with broken ones."""
    from ._backends import list_backends

    with explained():
        raise typer.Exit(list_backends(as_json=as_json))


@app.command()
@chooses_backend
def doctor(
    *,
    choice: BackendChoice,
    language: Language = None,
    wait: Annotated[
        float, typer.Option(help="Seconds for a server to wake up.")
    ] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Look at a recogniser step by step and say what to do about what is wrong."""
    from ._doctor import examine

    run(partial(examine, choice, language=language, wait_s=wait, as_json=as_json))


@app.command()
@chooses_backend
def bench(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Recordings, each with its text beside it as .txt."
        ),
    ],
    *,
    choice: BackendChoice,
    language: Language = None,
    pace: Annotated[
        float, typer.Option(help="1 as it was spoken; 0 measures no latencies.")
    ] = 1.0,
    hypotheses: Annotated[
        Path | None, typer.Option(help="Folder for all captions, as JSON Lines.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure word error rate and latency over a folder of recordings."""
    from ._measuring import BenchJob, measure_all

    with explained():
        job = BenchJob(
            folder=folder,
            backend=choice.build(),
            language=language,
            pace=pace,
            hypotheses=hypotheses,
            as_json=as_json,
        )
    run(partial(measure_all, job))


@app.command("fake-server")
def fake_server(
    model: Annotated[
        str, typer.Option(help="Kind of server: 1b, 2.6b or python.")
    ] = "1b",
    speed: Annotated[
        float, typer.Option(help="Times faster than speech; 0 for no limit.")
    ] = 3.0,
    script: Annotated[
        str | None, typer.Option(help="Text it says to everybody, whatever it hears.")
    ] = None,
    tones: Annotated[
        Path | None,
        typer.Option(help="Write a WAV file that it understands, and end."),
    ] = None,
    text: Annotated[
        str, typer.Option(help="With --tones: words of its vocabulary.")
    ] = "alpha bravo charlie. delta echo.",
) -> None:
    """Pretend to be a moshi-server on this machine, to try things out without a GPU.

    It hears no speech: each of its 26 words is a chord of three tones.
    """
    with explained():
        from ._fake_server import ServeJob, serve_fake, write_tones

        if tones is not None:
            write_tones(tones, text)
            raise typer.Exit(0)
        job = ServeJob(model=model, speed=speed, script=script)
    run(partial(serve_fake, job))
