# SPDX-License-Identifier: MIT
"""Word error rates and percentiles.

The normaliser, for the rate that forgives spelling: Unicode NFKC, lower case,
typographic apostrophes made plain, everything that is neither letter, digit nor an
apostrophe within a word made a space. Numbers stay as written. The raw rate
compares words as they are, with case and punctuation.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence

from attrs import frozen

from ..errors import BackendUnavailable

__all__ = ["WordErrors", "confidence", "count_errors", "normalise", "percentile"]

RESAMPLES = 1000


@frozen(kw_only=True)
class WordErrors:
    """Errors of one text, or of several added up."""

    words: int
    """Words of the reference."""
    substituted: int
    deleted: int
    inserted: int

    @property
    def errors(self) -> int:
        """All errors."""
        return self.substituted + self.deleted + self.inserted

    @property
    def rate(self) -> float | None:
        """Word error rate; None for an empty reference, where there is none."""
        return self.errors / self.words if self.words else None

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            words=self.words + other.words,
            substituted=self.substituted + other.substituted,
            deleted=self.deleted + other.deleted,
            inserted=self.inserted + other.inserted,
        )


NO_ERRORS = WordErrors(words=0, substituted=0, deleted=0, inserted=0)


def normalise(text: str) -> str:
    """Forgive case and punctuation; see the module for how."""
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    text = re.sub(r"[^\w']|_", " ", text)
    return " ".join(word.strip("'") for word in text.split() if word.strip("'"))


def count_errors(reference: str, heard: str) -> WordErrors:
    """Compare two texts with jiwer.

    jiwer gives a number for an empty reference too; here every word heard then
    counts as inserted, and `WordErrors.rate` is None.

    Raises:
        BackendUnavailable: If jiwer is missing (extra `cli`).
    """
    if not reference.split():
        return WordErrors(
            words=0, substituted=0, deleted=0, inserted=len(heard.split())
        )
    try:
        import jiwer
    except ImportError as exc:
        raise BackendUnavailable(
            "word error rates need jiwer: pip install 'kyutai-stream[cli]'"
        ) from exc
    found = jiwer.process_words(reference, heard)
    return WordErrors(
        words=len(reference.split()),
        substituted=found.substitutions,
        deleted=found.deletions,
        inserted=found.insertions,
    )


def confidence(files: Sequence[WordErrors]) -> tuple[float, float] | None:
    """95 % interval of the pooled rate, by drawing files anew 1000 times.

    Returns:
        Lower and upper bound; None for fewer than two files with words.
    """
    files = [one for one in files if one.words]
    if len(files) < 2:
        return None
    draw = random.Random(0)
    rates = []
    for _ in range(RESAMPLES):
        pooled = sum(draw.choices(files, k=len(files)), NO_ERRORS)
        rates.append(pooled.errors / pooled.words)
    return percentile(rates, 2.5), percentile(rates, 97.5)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value at a percentage of the sorted ones, interpolated.

    Args:
        values: At least one.
        percent: 0 to 100.
    """
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
