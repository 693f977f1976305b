# SPDX-License-Identifier: MIT
"""Audio as words: `ToneRecogniser`, and how it tells chords from anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from .vocabulary import (
    CHORDS,
    RAMP_S,
    RATE,
    TONES_HZ,
    VOCABULARY,
    HeardWord,
    duration_of,
)

__all__ = ["ToneRecogniser"]

Samples = npt.NDArray[np.float32]

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
    for number, chord in enumerate(CHORDS):
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
        expected = duration_of(self.number)
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
