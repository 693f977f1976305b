# SPDX-License-Identifier: MIT
"""A language of tones: words that are really in the audio, and a recogniser for them.

Whether a caption path loses or doubles words can only be tested with words that
are decoded from the audio itself. Here each word is a short chord of three tones;
`speak` makes the samples, `ToneRecogniser` hears them, and both know the exact
times. The words survive Opus at speech bitrates and a change of sample rate.

```python
spoken = speak("alpha bravo charlie. delta echo")
heard = ToneRecogniser().push(spoken.samples)
```

The 26 chords are the lines of a Steiner system: 13 frequencies, three to a word,
and no two words share more than one. A damaged word is therefore not heard at all
rather than taken for another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

__all__ = [
    "TONES_HZ",
    "VOCABULARY",
    "HeardWord",
    "ToneRecogniser",
    "Utterance",
    "chord_hz",
    "duration_s",
    "speak",
]

Samples = npt.NDArray[np.float32]

RATE: Final = 24_000

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

SENTENCE_ENDS: Final = ".!?"
RAMP_S: Final = 0.01
GAP_S: Final = 0.12
SENTENCE_PAUSE_S: Final = 0.9
TAIL_S: Final = 0.1
LEVEL_DBFS: Final = -15.0


def _chords() -> tuple[tuple[int, int, int], ...]:
    # Both base blocks together have each difference modulo 13 once, so any pair
    # of tones belongs to exactly one word.
    blocks = ((0, 1, 4), (0, 2, 7))
    return tuple(
        (block[0] + shift, (block[1] + shift) % 13, (block[2] + shift) % 13)
        for block in blocks
        for shift in range(13)
    )


_CHORDS: Final = _chords()
_INDEX: Final = {word: index for index, word in enumerate(VOCABULARY)}


def chord_hz(word: str) -> tuple[int, ...]:
    """The three frequencies of a word, in Hz.

    Raises:
        ValueError: If the vocabulary does not have the word.
    """
    return tuple(sorted(TONES_HZ[tone] for tone in _CHORDS[_number(word)]))


def duration_s(word: str) -> float:
    """How long a word is spoken: 0.22 to 0.32 seconds.

    Raises:
        ValueError: If the vocabulary does not have the word.
    """
    return _duration(_number(word))


def _duration(number: int) -> float:
    return 0.22 + 0.02 * (number % 6)


def _number(word: str) -> int:
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


@frozen(kw_only=True, eq=False)
class Utterance:
    """Spoken words and their exact times."""

    samples: Samples = field(repr=False)
    """Mono PCM, float32, shape `(n,)`, -1.0 to 1.0, at `sample_rate`."""
    words: tuple[HeardWord, ...]
    """What is in it, in order."""
    sample_rate: int
    """Samples per second."""

    @property
    def text(self) -> str:
        """The words, joined by spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def duration_s(self) -> float:
        """Seconds of audio."""
        return len(self.samples) / self.sample_rate


def speak(
    words: str | Iterable[str],
    *,
    sample_rate: int = RATE,
    gap_s: float = GAP_S,
    sentence_pause_s: float = SENTENCE_PAUSE_S,
    lead_s: float = 0.0,
    tail_s: float = TAIL_S,
    level_dbfs: float = LEVEL_DBFS,
    noise_dbfs: float | None = None,
    seed: int = 0,
) -> Utterance:
    """Say words of the vocabulary.

    Args:
        words: A text or single words. A full stop, question or exclamation mark
            behind a word ends a sentence; it is not part of the word.
        sample_rate: Samples per second, from 12 000 on.
        gap_s: Shortest silence between two words; each gap is longer than that by
            up to a third, chosen by `seed`. From 0.08 on.
        sentence_pause_s: Silence between sentences, likewise.
        lead_s: Silence before the first word.
        tail_s: Silence after the last word; the recogniser needs 0.05.
        level_dbfs: Level (root mean square) of the words; full scale is a sine of
            -3 dBFS. The recogniser needs -38 or more.
        noise_dbfs: Level of white noise over everything; None for none.
        seed: Decides gaps, phases and noise.

    Returns:
        The audio with the exact times of its words.

    Raises:
        ValueError: If a word is unknown or a number out of range.
    """
    if sample_rate < 12_000:
        raise ValueError("the tones need at least 12 000 samples per second")
    if gap_s < 0.08:
        raise ValueError("words closer than 80 ms cannot be told apart")
    random = np.random.default_rng(seed)
    said: list[HeardWord] = []
    parts: list[tuple[int, Samples]] = []
    at = lead_s
    pause = 0.0
    for spelled in words.split() if isinstance(words, str) else words:
        text = spelled.rstrip(SENTENCE_ENDS).lower()
        number = _number(text)
        at += pause
        begin = round(at * sample_rate)
        burst = _burst(number, sample_rate, level_dbfs, random)
        parts.append((begin, burst))
        end = begin + len(burst)
        said.append(
            HeardWord(text=text, start=begin / sample_rate, end=end / sample_rate)
        )
        at = end / sample_rate
        long = spelled[-1] in SENTENCE_ENDS
        pause = (sentence_pause_s if long else gap_s) * random.uniform(1.0, 4 / 3)
    samples = np.zeros(round((at + tail_s) * sample_rate), dtype=np.float32)
    for begin, burst in parts:
        samples[begin : begin + len(burst)] = burst
    if noise_dbfs is not None:
        scale = 10 ** (noise_dbfs / 20)
        samples += random.normal(0, scale, len(samples)).astype(np.float32)
        np.clip(samples, -1.0, 1.0, out=samples)
    return Utterance(samples=samples, words=tuple(said), sample_rate=sample_rate)


def _burst(
    number: int, rate: int, level_dbfs: float, random: np.random.Generator
) -> Samples:
    length = round(_duration(number) * rate)
    time = np.arange(length) / rate
    tones = sum(
        np.sin(2 * np.pi * (TONES_HZ[tone] * time + random.uniform()))
        for tone in _CHORDS[number]
    )
    # Three tones of amplitude a have a mean square of 3 a² / 2.
    amplitude = 10 ** (level_dbfs / 20) * np.sqrt(2 / 3)
    ramp = round(RAMP_S * rate)
    envelope = np.ones(length)
    envelope[:ramp] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
    envelope[-ramp:] = envelope[:ramp][::-1]
    return np.asarray(amplitude * envelope * tones, dtype=np.float32)


_HOP: Final = 240
_WINDOW: Final = 480
_ROW_S: Final = _HOP / RATE

# Below this mean square (-50 dBFS) there is nothing to hear.
_FLOOR: Final = 1e-5
# Above this it is no audio (float samples far out of range, infinite or NaN).
_CEILING: Final = 16.0
# Share of the power that the three tones must have.
_TONAL_SHARE: Final = 0.4
# Opus at 16 kbit/s pulls the tones of a chord up to 20 dB apart, but what it adds
# lies 10 dB below the weakest: least power of the third tone, against the first one
# and against the fourth.
_WEAKEST: Final = 0.003
_ABOVE_REST: Final = 3.0
# Rows (10 ms) without the chord that do not end a burst.
_PATIENCE: Final = 2
# A burst is believed if this much of its length was there.
_LEAST_SHARE: Final = 0.72
_LONGEST_EXCESS_S: Final = 0.05
_ROWS_KEPT: Final = 100


def _analysis() -> tuple[Samples, Samples]:
    window = np.hanning(_WINDOW + 1)[:-1]
    time = np.arange(_WINDOW) / RATE
    angles = 2 * np.pi * np.outer(time, np.array(TONES_HZ))
    # Scaled so that a sine of amplitude a gives its own mean square, a² / 2.
    waves = np.hstack((np.cos(angles), np.sin(angles))) * window[:, None]
    waves *= np.sqrt(2) / window.sum()
    energy = window / window.sum()
    return waves.astype(np.float32), energy.astype(np.float32)


_WAVES, _ENERGY = _analysis()


def _chord_table() -> npt.NDArray[np.int8]:
    table = np.full(1 << 13, -1, dtype=np.int8)
    for number, chord in enumerate(_CHORDS):
        table[sum(1 << tone for tone in chord)] = number
    return table


_TABLE: Final = _chord_table()
_BITS: Final = np.left_shift(1, np.arange(13), dtype=np.int64)


class ToneRecogniser:
    """Hears the words of `speak` in a stream of audio; reads no clock.

    It hears a word once its burst is over and some 40 ms have followed. It hears
    nothing in silence, noise or speech, and no word of which more than about 30 %
    is missing. Levels from -38 dBFS to full scale are fine. A frame of 1 920
    samples costs some tens of microseconds, silence next to nothing.
    """

    def __init__(self) -> None:
        self._held: Samples
        self._row: int
        self._open: _Burst | None
        self.reset()

    def reset(self) -> None:
        """Forget everything; times begin at 0 again."""
        # Half a window of silence ahead, so that row r is centred on r hops.
        self._held = np.zeros(_WINDOW // 2, dtype=np.float32)
        self._row = 0
        self._open = None

    @property
    def speaking(self) -> bool:
        """Whether a word is being heard at this moment."""
        return self._open is not None

    def push(self, samples: npt.NDArray[np.float32]) -> list[HeardWord]:
        """Listen to more audio.

        Args:
            samples: Mono PCM, float32, shape `(n,)`, -1.0 to 1.0, 24 000 Hz; any
                length. Where chunks are cut makes no difference.

        Returns:
            The words whose end was heard in it, in order.
        """
        held = np.concatenate((self._held, samples), dtype=np.float32)
        rows = max(0, (len(held) - _WINDOW) // _HOP + 1)
        self._held = held[rows * _HOP :]
        if not rows:
            return []
        with np.errstate(all="ignore"):
            labels, powers = _listen(held, rows)
        first = self._row
        self._row += rows
        heard = []
        for row, (label, power) in enumerate(zip(labels, powers, strict=True), first):
            word = self._take(row, label, power)
            if word is not None:
                heard.append(word)
        return heard

    def _take(self, row: int, label: int, power: float) -> HeardWord | None:
        burst = self._open
        if burst is not None and label == burst.number:
            burst.add(row, power)
            return None
        if burst is not None and label < 0 and row - burst.last <= _PATIENCE:
            return None
        self._open = _Burst(label, row, power) if label >= 0 else None
        return burst.word() if burst is not None else None


class _Burst:
    """The rows of one chord."""

    __slots__ = ("first", "last", "number", "powers")

    def __init__(self, number: int, row: int, power: float) -> None:
        self.number = number
        self.first = row
        self.last = row
        self.powers = [power]

    def add(self, row: int, power: float) -> None:
        # An endless tone is too long for a word; it need not be kept whole.
        if len(self.powers) < _ROWS_KEPT:
            # Rows that were passed over count as the quiet they were.
            self.powers.extend([0.0] * (row - self.last - 1))
            self.powers.append(power)
        self.last = row

    def word(self) -> HeardWord | None:
        """The word, if enough of it was there."""
        # A window centred on the middle of a ramp holds half the amplitude: it lies
        # where the amplitude crosses half of the plateau's.
        heights = np.sqrt([0.0, *self.powers, 0.0])
        heights /= 0.5 * np.median(heights[1:-1])
        inside = np.flatnonzero(heights >= 1.0)
        first, last = int(inside[0]), int(inside[-1])
        # Linear between two rows; index 0 is the row before the first one.
        before = (heights[first] - 1) / (heights[first] - heights[first - 1])
        after = (heights[last] - 1) / (heights[last] - heights[last + 1])
        start = float(self.first - 1 + first - before) * _ROW_S - RAMP_S / 2
        end = float(self.first - 1 + last + after) * _ROW_S + RAMP_S / 2
        expected = _duration(self.number)
        length = end - start
        if not _LEAST_SHARE * expected <= length <= expected + _LONGEST_EXCESS_S:
            return None
        return HeardWord(text=VOCABULARY[self.number], start=start, end=end)


_Rows = tuple[Sequence[int], Sequence[float]]


def _listen(held: Samples, rows: int) -> _Rows:
    """Name the chord of each row (-1: none) and its power."""
    level = _windows(np.square(held), rows) @ _ENERGY
    if level.max() < _FLOOR:
        return [-1] * rows, [0.0] * rows
    parts = np.square(_windows(held, rows) @ _WAVES)
    tones = parts[:, :13] + parts[:, 13:]
    ranked = np.sort(tones, axis=1)[:, 9:]
    third = ranked[:, 1]
    power = ranked[:, 1:].sum(axis=1)
    good = (
        (level >= _FLOOR)
        & (level <= _CEILING)
        & (power >= _TONAL_SHARE * level)
        & (third >= _WEAKEST * ranked[:, 3])
        & (third >= _ABOVE_REST * ranked[:, 0])
    )
    labels = _TABLE[(tones >= third[:, None]) @ _BITS]
    labels[~good] = -1
    return labels.tolist(), power.tolist()


def _windows(samples: Samples, rows: int) -> Samples:
    # The same as `sliding_window_view`, at a tenth of its cost.
    return np.ndarray(
        (rows, _WINDOW),
        np.float32,
        samples,
        0,
        (_HOP * samples.itemsize, samples.itemsize),
    )
