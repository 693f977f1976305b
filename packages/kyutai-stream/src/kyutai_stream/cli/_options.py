# SPDX-License-Identifier: MIT
"""Options of the commands, and how those that name a backend become a choice."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer

from ._failures import explained
from ._settings import BackendChoice, parse_setting

__all__ = [
    "AsJson",
    "Channels",
    "Device",
    "File",
    "Language",
    "Mic",
    "Outputs",
    "Plain",
    "Rate",
    "Raw",
    "Speaker",
    "Strict",
    "chooses_backend",
]

# -- what is heard, and by whom --------------------------------------------------------

File = Annotated[
    str | None, typer.Argument(help="Audio or video file; - for standard input.")
]
Mic = Annotated[bool, typer.Option("--mic", help="Listen to the microphone.")]
Device = Annotated[str | None, typer.Option(help="With --mic: which one.")]
Raw = Annotated[
    str | None, typer.Option(help="Samples without header: f32le or s16le.")
]
Rate = Annotated[int, typer.Option(help="With --raw: samples per second.")]
Channels = Annotated[int, typer.Option(help="With --raw: channels.")]
Language = Annotated[
    str | None,
    typer.Option("--language", "-l", help="What is spoken, such as `en` or `fr`."),
]
Speaker = Annotated[str, typer.Option(help="Name for WebVTT's voice tags.")]

# -- what is made of it ----------------------------------------------------------------

Outputs = Annotated[
    list[Path] | None,
    typer.Option("--output", "-o", help="Write .srt, .vtt, .jsonl or .txt, too."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Plain = Annotated[bool, typer.Option(help="Plain lines, also when piped.")]
Strict = Annotated[bool, typer.Option(help="Exit with 1 after a gap.")]

# -- which backend ---------------------------------------------------------------------

CHOICE: dict[str, Any] = {
    "backend": Annotated[
        str | None,
        typer.Option(
            "--backend",
            "-b",
            envvar="KYUTAI_STREAM_BACKEND",
            help="Recogniser; `kyutai-stream backends` lists them.",
        ),
    ],
    "url": Annotated[
        str | None,
        typer.Option(envvar="KYUTAI_STREAM_URL", help="Address of the server."),
    ],
    "api_key": Annotated[
        str | None,
        typer.Option(
            envvar="KYUTAI_STREAM_API_KEY",
            help="Key of the server; better set in the environment than typed.",
        ),
    ],
    "modal_workspace": Annotated[
        str | None, typer.Option(envvar="MODAL_WORKSPACE", help="Workspace on Modal.")
    ],
    "modal_key": Annotated[
        str | None, typer.Option(envvar="MODAL_KEY", help="Id of Modal's proxy token.")
    ],
    "modal_secret": Annotated[
        str | None,
        typer.Option(envvar="MODAL_SECRET", help="Secret of that token."),
    ],
    "setting": Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Other setting of the backend."
        ),
    ],
}
"""The options that choose a backend, and the environment that does."""

SETTINGS = {
    "url": "url",
    "api_key": "api_key",
    "modal_workspace": "workspace",
    "modal_key": "key",
    "modal_secret": "secret",
}
"""Of those options, the ones that set something: what backends call it."""


def chooses_backend(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose a backend, in place of its `choice`.

    Typer reads a command's options from its signature: there they take the place of
    the parameter, which then gets what they mean.
    """

    @functools.wraps(command)
    def chosen(ctx: typer.Context, **given: Any) -> None:
        with explained():
            options = {name: given.pop(name) for name in CHOICE}
            choice = _choice(ctx, options["backend"], options["setting"])
        command(choice=choice, **given)

    parameters = [
        Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context),
    ]
    signature = inspect.signature(command, eval_str=True)
    for parameter in signature.parameters.values():
        if parameter.name != "choice":
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        parameters += [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=option)
            for name, option in CHOICE.items()
        ]
    chosen.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # of any function
    return chosen


def _choice(
    ctx: typer.Context, backend: str | None, settings: list[str] | None
) -> BackendChoice:
    typed: dict[str, object] = {}
    ambient: dict[str, object] = {}
    for option, name in SETTINGS.items():
        value = ctx.params.get(option)
        if value is None or value == "":
            continue
        source = ctx.get_parameter_source(option)
        by_hand = source is not None and source.name == "COMMANDLINE"
        (typed if by_hand else ambient)[name] = value
    if "workspace" in typed:
        # Typed now, it is meant rather than some address set long ago.
        ambient.pop("url", None)
    typed |= dict(parse_setting(text) for text in settings or [])
    return BackendChoice(name=backend, typed=typed, ambient=ambient)
