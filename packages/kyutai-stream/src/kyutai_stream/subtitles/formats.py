# SPDX-License-Identifier: MIT
"""Write cues and finals: SRT and WebVTT through pysubs2, JSON Lines, plain text."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BackendUnavailable, ConfigError
from ..events import Final, Partial
from .cues import Cue, CueRules, make_cues

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "FORMATS",
    "caption_line",
    "format_of",
    "render_srt",
    "render_text",
    "render_vtt",
    "write_subtitles",
]

FORMATS = ("srt", "vtt", "jsonl", "txt")
"""What `write_subtitles` can write; also the file endings."""

JOINER = "\N{WORD JOINER}"
"""Invisible; keeps what somebody said from being read as markup."""


def format_of(path: str | os.PathLike[str]) -> str:
    """Read the format off a file's name.

    Raises:
        ConfigError: If the ending is none of `FORMATS`.
    """
    ending = Path(path).suffix.lstrip(".").lower()
    if ending not in FORMATS:
        known = ", ".join(f".{one}" for one in FORMATS)
        raise ConfigError(f"{os.fspath(path)!r} must end in one of {known}")
    return ending


def write_subtitles(
    path: str | os.PathLike[str],
    finals: Sequence[tuple[Final, float]],
    *,
    speaker: str = "",
    rules: CueRules | None = None,
) -> None:
    """Write a file in the format that its name ends in.

    The file appears whole or not at all.

    Args:
        path: Ends in one of `FORMATS`.
        finals: Each with the seconds since the start at which it came out, which
            only JSON Lines records.
        speaker: Name for the voice tags of WebVTT; empty for none.
        rules: What makes a cue readable.

    Raises:
        ConfigError: If the ending is unknown.
        BackendUnavailable: If pysubs2 is missing for SRT or WebVTT (extra `cli`).
        OSError: If the file cannot be written.
    """
    kind = format_of(path)
    only = [final for final, _ in finals]
    match kind:
        case "srt":
            text = render_srt(make_cues(only, rules))
        case "vtt":
            text = render_vtt(make_cues(only, rules), speaker=speaker)
        case "txt":
            text = render_text(only)
        case _:
            text = "".join(caption_line(final, at) + "\n" for final, at in finals)
    part = Path(f"{os.fspath(path)}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def render_srt(cues: Iterable[Cue]) -> str:
    """Write cues as SubRip.

    Raises:
        BackendUnavailable: If pysubs2 is missing (extra `cli`).
    """
    return _render(cues, "srt", _srt_line)


def render_vtt(cues: Iterable[Cue], *, speaker: str = "") -> str:
    """Write cues as WebVTT.

    Args:
        cues: The cues.
        speaker: Name for a voice tag on each cue; empty for none.

    Raises:
        BackendUnavailable: If pysubs2 is missing (extra `cli`).
    """
    name = " ".join(speaker.split())
    voice = f"<v {_vtt_line(name)}>" if name else ""
    return _render(cues, "vtt", _vtt_line, before=voice)


def render_text(finals: Iterable[Final]) -> str:
    """Write finals as plain text, one to a line."""
    return "".join(" ".join(final.text.split()) + "\n" for final in finals)


def caption_line(event: Partial | Final, emission_time: float) -> str:
    """Write a caption as a line of JSON, without the line end.

    The fields `emission_time`, `start`, `end`, `text` and `is_final` are those of
    SimulStreaming's logs, so that latency can be computed from them later.

    Args:
        event: The caption.
        emission_time: Seconds since the start at which it came out.
    """
    record: dict[str, object] = {
        "emission_time": round(emission_time, 3),
        "start": round(event.start, 3),
        "end": round(event.end, 3) if isinstance(event, Final) else None,
        "text": event.text,
        "is_final": isinstance(event, Final),
        "segment": event.segment_id,
    }
    if isinstance(event, Final):
        record["reason"] = event.reason.value
    return json.dumps(record, ensure_ascii=False)


def _render(
    cues: Iterable[Cue],
    kind: str,
    line: Callable[[str], str],
    before: str = "",
) -> str:
    pysubs2 = _pysubs2()
    file = pysubs2.SSAFile()
    for cue in cues:
        text = before + r"\N".join(line(one) for one in cue.lines)
        file.append(
            pysubs2.SSAEvent(
                start=round(cue.start * 1000), end=round(cue.end * 1000), text=text
            )
        )
    # Our text is no markup of Advanced SubStation: it goes out as it is.
    rendered: str = file.to_string(kind, keep_ssa_tags=True)
    return rendered


def _pysubs2() -> ModuleType:
    try:
        import pysubs2
    except ImportError as exc:
        raise BackendUnavailable(
            "subtitle files need pysubs2: pip install 'kyutai-stream[cli]'"
        ) from exc
    return pysubs2


def _srt_line(text: str) -> str:
    # SubRip has no way to escape: what looks like a tag or an arrow is taken apart.
    return _plain(re.sub(r"<(?=[a-zA-Z/])", "<" + JOINER, text)).replace(
        "-->", f"-{JOINER}->"
    )


def _vtt_line(text: str) -> str:
    return html.escape(_plain(text), quote=False)


def _plain(text: str) -> str:
    # pysubs2 would read line breaks and drawing commands into backslashes.
    return text.replace("\\", "\\" + JOINER)
