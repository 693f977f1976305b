# SPDX-License-Identifier: MIT
"""Finals of a session as subtitles: SRT, WebVTT, JSON Lines, plain text.

`make_cues` divides the words into cues that can be read; `write_subtitles` does that
and writes a file. Only finals are exported.
"""

from __future__ import annotations

from .cues import Cue, CueRules, TimedWord, make_cues, timed_words
from .formats import (
    FORMATS,
    caption_line,
    format_of,
    render_srt,
    render_text,
    render_vtt,
    write_subtitles,
)

__all__ = [
    "FORMATS",
    "Cue",
    "CueRules",
    "TimedWord",
    "caption_line",
    "format_of",
    "make_cues",
    "render_srt",
    "render_text",
    "render_vtt",
    "timed_words",
    "write_subtitles",
]
