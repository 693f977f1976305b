# SPDX-License-Identifier: AGPL-3.0-or-later
"""What can be asked for on the demo's command line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from attrs import frozen

__all__ = [
    "AudioFiles",
    "BackendChoice",
    "DemoOptions",
    "JsonChoice",
    "PageChoice",
    "Seconds",
    "Signaling",
    "SignalingChoice",
    "SttUrl",
    "Talkers",
    "Voice",
    "VoiceChoice",
]


class Signaling(StrEnum):
    """Which signaling server to use."""

    AUTO = "auto"
    REAL = "real"
    EMBEDDED = "embedded"


class Voice(StrEnum):
    """What the talkers say."""

    SPEECH = "speech"
    TONES = "tones"


@frozen(kw_only=True)
class DemoOptions:
    """What was asked for on the command line."""

    signaling: Signaling
    backend: str
    stt_url: str | None
    voice: Voice
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
SttUrl = Annotated[
    str | None,
    typer.Option(
        help="Where that backend is (LT_STT_URL). Its keys come from the environment:"
        " LT_STT_API_KEY, or MODAL_KEY and MODAL_SECRET."
    ),
]
VoiceChoice = Annotated[
    Voice,
    typer.Option(
        help="Tones are for test servers that hear them: captions must be exact."
    ),
]
AudioFiles = Annotated[
    list[Path] | None,
    typer.Option(
        help="Speech of one talker; repeatable. A .txt beside it is its text."
    ),
]
Talkers = Annotated[int, typer.Option(min=1, max=4, help="Number of talkers.")]
Seconds = Annotated[
    float | None, typer.Option(min=1, help="Stop the speech after this time.")
]
PageChoice = Annotated[
    bool, typer.Option("--page/--no-page", help="Serve a local caption page.")
]
JsonChoice = Annotated[
    bool, typer.Option("--json", help="JSON Lines on standard output.")
]
