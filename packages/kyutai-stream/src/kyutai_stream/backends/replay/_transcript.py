# SPDX-License-Identifier: MIT
"""A transcript with times: read it, check it, cut it into words. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import field, frozen

from ...errors import ConfigError

__all__ = [
    "Line",
    "TranscriptLine",
    "TranscriptWord",
    "checked",
    "load",
    "parse",
    "words_of",
]


@frozen(kw_only=True)
class TranscriptLine:
    """One or more words and when they are said."""

    text: str = field(repr=False)
    """The words, separated by white space."""
    start: float
    """Seconds of audio since the connection was opened or reset."""
    end: float | None = None
    """Seconds of audio; None if unknown."""
    speaker: str | None = field(default=None, repr=False)
    """Only for the speaker of this label; None for everybody."""


@frozen(kw_only=True)
class TranscriptWord:
    """One word of a transcript."""

    text: str = field(repr=False)
    """The word, without white space."""
    start: float
    """Seconds of audio."""
    end: float | None
    """Seconds of audio; None if unknown."""

    @property
    def due(self) -> float:
        """Seconds of audio after which it has been said."""
        return self.start if self.end is None else self.end


Line = TranscriptLine | Mapping[str, object]
"""A line in code: the class, or a mapping with its field names."""


def load(path: str | Path) -> tuple[TranscriptLine, ...]:
    """Read a JSON Lines file.

    Raises:
        ConfigError: If it cannot be read or a line is malformed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        # ValueError: not UTF-8, or a NUL in the path.
        raise ConfigError(f"cannot read the transcript {str(path)!r}: {exc}") from exc
    return parse(text)


def parse(text: str) -> tuple[TranscriptLine, ...]:
    """Read JSON Lines: one object a line, `text` and `start` required.

    Further fields are `end` and `speaker`; others are ignored, and so are empty
    lines.

    Raises:
        ConfigError: If a line is malformed; the message has its number, not its text.
    """
    lines = []
    for number, row in enumerate(text.split("\n"), start=1):
        if not row.strip():
            continue
        try:
            value = json.loads(row)
        except (ValueError, RecursionError) as exc:
            raise ConfigError(f"transcript line {number} is no JSON object") from exc
        lines.append(_line(value, number))
    return tuple(lines)


def checked(lines: Iterable[Line]) -> tuple[TranscriptLine, ...]:
    """Check lines given in code.

    Raises:
        ConfigError: If one is malformed.
    """
    return tuple(_line(line, number) for number, line in enumerate(lines, start=1))


def words_of(
    lines: Iterable[TranscriptLine], speaker: str
) -> tuple[TranscriptWord, ...]:
    """The words for one speaker, by start; those of a line share its time evenly."""
    words = []
    for line in lines:
        if line.speaker not in (None, speaker):
            continue
        texts = line.text.split()
        step = 0.0 if line.end is None else (line.end - line.start) / max(1, len(texts))
        for place, text in enumerate(texts):
            start = line.start + place * step
            end = None if line.end is None else start + step
            words.append(TranscriptWord(text=text, start=start, end=end))
    return tuple(sorted(words, key=lambda word: word.start))


def _line(value: object, number: int) -> TranscriptLine:
    if isinstance(value, TranscriptLine):
        value = {
            "text": value.text,
            "start": value.start,
            "end": value.end,
            "speaker": value.speaker,
        }
    if not isinstance(value, Mapping):
        raise ConfigError(f"transcript line {number} is no JSON object")
    text, speaker = value.get("text"), value.get("speaker")
    if not isinstance(text, str):
        raise ConfigError(f"transcript line {number} needs a `text`")
    if not (speaker is None or isinstance(speaker, str)):
        raise ConfigError(f"transcript line {number}: `speaker` is text")
    start, end = value.get("start"), value.get("end")
    first = _seconds(start, "start", number)
    last = None if end is None else _seconds(end, "end", number)
    if last is not None and last < first:
        raise ConfigError(f"transcript line {number} ends before it starts")
    return TranscriptLine(text=text, start=first, end=last, speaker=speaker)


def _seconds(value: object, name: str, number: int) -> float:
    # JSON knows no NaN, Python's reader does; and `true` is a number to Python.
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    raise ConfigError(f"transcript line {number}: `{name}` is seconds, 0 or more")
