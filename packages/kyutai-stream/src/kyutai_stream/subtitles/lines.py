# SPDX-License-Identifier: MIT
"""Where text may be broken, and how a cue's words become lines."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CLAUSE", "SENTENCE", "WORD", "break_lines", "break_rank"]

SENTENCE, CLAUSE, WORD = 0, 1, 2
"""Kinds of places to break, the best first."""

SENTENCE_ENDS = (".", "?", "!", "…")
CLAUSE_ENDS = (",", ";", ":", "–", "—")
CLOSING_MARKS = "\"'”’»)]"


def break_rank(word: str) -> int:
    """Say how good it is to break after this word."""
    bare = word.rstrip(CLOSING_MARKS)
    if bare.endswith(SENTENCE_ENDS):
        return SENTENCE
    return CLAUSE if bare.endswith(CLAUSE_ENDS) else WORD


def break_lines(
    words: Sequence[str], width: int, most_lines: int
) -> tuple[str, ...] | None:
    """Put words into one line, or two of about the same length.

    Args:
        words: At least one.
        width: Most characters in a line.
        most_lines: 1 or 2.

    Returns:
        The lines; None if they do not fit. A single word always fits.
    """
    whole = " ".join(words)
    if len(whole) <= width or len(words) == 1:
        return (whole,)
    if most_lines < 2 or len(whole) > 2 * width + 1:
        return None
    best: tuple[float, tuple[str, str]] | None = None
    length = -1
    for place in range(1, len(words)):
        length += len(words[place - 1]) + 1
        rest = len(whole) - length - 1
        if length > width or rest > width:
            continue
        cost = abs(length - rest) + 12 * break_rank(words[place - 1])
        if best is None or cost < best[0]:
            best = (cost, (" ".join(words[:place]), " ".join(words[place:])))
    return None if best is None else best[1]
