# SPDX-License-Identifier: MIT
"""The words, the chords that they are made of, and how long each is."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

__all__ = [
    "CHORDS",
    "RAMP_S",
    "RATE",
    "TONES_HZ",
    "VOCABULARY",
    "HeardWord",
    "chord_hz",
    "duration_of",
    "duration_s",
    "number_of",
]

RATE: Final = 24_000
"""Samples per second that the recogniser hears."""

RAMP_S: Final = 0.01
"""How long a word takes to get loud, and quiet again."""

TONES_HZ: Final = tuple(400 + 350 * index for index in range(13))
"""The frequencies that words are made of, 400 to 4 600 Hz.

Source:
    Opus cuts at 4 kHz (narrow band) only below about 10 kbit/s; at 16 kbit/s it
    carries 8 kHz. Multiples of 50 Hz fall into the middle of the recogniser's bins.
"""

VOCABULARY: Final = tuple(
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike"
    " november oscar papa quebec romeo sierra tango uniform victor whiskey xray yankee"
    " zulu".split()
)
"""All words that can be spoken."""


def _chords() -> tuple[tuple[int, int, int], ...]:
    # Both base blocks together have each difference modulo 13 once, so any pair
    # of tones belongs to exactly one word.
    blocks = ((0, 1, 4), (0, 2, 7))
    return tuple(
        (block[0] + shift, (block[1] + shift) % 13, (block[2] + shift) % 13)
        for block in blocks
        for shift in range(13)
    )


CHORDS: Final = _chords()
"""Three indices into `TONES_HZ` for each word, in the order of `VOCABULARY`."""

_INDEX: Final = {word: index for index, word in enumerate(VOCABULARY)}


def chord_hz(word: str) -> tuple[int, ...]:
    """The three frequencies of a word, in Hz.

    Raises:
        ValueError: If the vocabulary does not have the word.
    """
    return tuple(sorted(TONES_HZ[tone] for tone in CHORDS[number_of(word)]))


def duration_s(word: str) -> float:
    """How long a word is spoken: 0.22 to 0.32 seconds.

    Raises:
        ValueError: If the vocabulary does not have the word.
    """
    return duration_of(number_of(word))


def duration_of(number: int) -> float:
    """The same for a word by its place in `VOCABULARY`."""
    return 0.22 + 0.02 * (number % 6)


def number_of(word: str) -> int:
    """The place of a word in `VOCABULARY`.

    Raises:
        ValueError: If the vocabulary does not have the word.
    """
    try:
        return _INDEX[word]
    except KeyError:
        raise ValueError(f"{word!r} is no word of the tone vocabulary") from None


@frozen(kw_only=True)
class HeardWord:
    """One word in the audio."""

    text: str = field(repr=False)
    """As in `VOCABULARY`."""
    start: float
    """Seconds of audio where it begins."""
    end: float
    """Seconds of audio where it ends."""
