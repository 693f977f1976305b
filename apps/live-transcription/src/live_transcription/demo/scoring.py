# SPDX-License-Identifier: AGPL-3.0-or-later
"""How well captions match what was said: normalising and word error rate.

Both sides are normalised alike before they are compared, in this order:

1. Unicode NFKC, curly apostrophes made straight, everything in lower case.
2. Hyphens and dashes become spaces ("twenty-one" is two words).
3. All other punctuation is dropped, save apostrophes inside a word ("don't" stays;
   contractions are not expanded, so "do not" against "don't" counts as errors).
4. Runs of white space become one space.

Numbers stay as they are written: "10" and "ten" are different words. References for
a recogniser that writes words should therefore write words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import jiwer

__all__ = ["normalise", "word_error_rate"]

_APOSTROPHES = str.maketrans({"‘": "'", "’": "'", "ʼ": "'"})
_DASHES = re.compile(r"[-‐-―]")
_OUTER_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")
_NOT_A_WORD = re.compile(r"[^\w\s']|_")


def normalise(text: str) -> str:
    """Bring a text into the form that is compared; see the module's docstring."""
    plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
    plain = _NOT_A_WORD.sub("", _DASHES.sub(" ", plain))
    return " ".join(_OUTER_APOSTROPHE.sub("", plain).split())


def word_error_rate(pairs: Iterable[tuple[str | None, str]]) -> float | None:
    """Count the word errors of all pairs together, per word of the references.

    Args:
        pairs: Reference (None where it is not known: the pair does not count) and
            transcript. A reference without words counts too: everything that was
            recognised in it is an inserted word.

    Returns:
        Substituted, deleted and inserted words of all pairs, divided by the words of
        all references (pooled, so long texts weigh more). It can exceed 1.0. None if
        there is no reference, or no reference with a word in it: there is nothing
        to divide by.
    """
    errors = words = 0
    for reference, transcript in pairs:
        if reference is None:
            continue
        expected, heard = normalise(reference), normalise(transcript)
        if not expected:
            errors += len(heard.split())
            continue
        counted = jiwer.process_words(expected, heard)
        errors += counted.substitutions + counted.deletions + counted.insertions
        words += len(expected.split())
    return errors / words if words else None
