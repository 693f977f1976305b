# SPDX-License-Identifier: MIT
"""What kind of server the fake is, and what shall go wrong on a connection."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from attrs import evolve, field, frozen, validators

from ..tones import HeardWord

__all__ = [
    "STT_1B",
    "STT_2_6B",
    "STT_PYTHON",
    "ConnectionPlan",
    "Model",
    "PauseModel",
    "Recogniser",
    "Redecoding",
    "ScriptedRecogniser",
    "Timers",
    "plausible_pauses",
    "word_pieces",
]

STEP_S = 0.08
FRAME_SAMPLES = 1920


class Recogniser(Protocol):
    """Where the words come from: one instance for each stream and reset.

    `ToneRecogniser` is one that listens, `ScriptedRecogniser` one that does not.
    """

    @property
    def speaking(self) -> bool:
        """Whether a word has begun that was not heard to its end yet."""

    def push(self, samples: npt.NDArray[np.float32]) -> Sequence[HeardWord]:
        """Listen to more audio and return the words that ended in it.

        Args:
            samples: Mono PCM, float32, shape `(1920,)`, 24 000 Hz.
        """


class ScriptedRecogniser:
    """Says known words when so much audio has gone by, whatever is in it.

    It proves nothing about audio; for demonstrations and for texts that the tone
    vocabulary does not have. As a factory: `lambda: ScriptedRecogniser(words)`.

    Args:
        words: What to say, in order.
    """

    def __init__(self, words: Sequence[HeardWord]) -> None:
        self._left = list(words)
        self._fed = 0

    @property
    def speaking(self) -> bool:
        """Whether the audio is inside of a word."""
        return bool(self._left) and self._left[0].start < self._fed / 24_000

    def push(self, samples: npt.NDArray[np.float32]) -> Sequence[HeardWord]:
        """Return the words whose end lies in this audio."""
        self._fed += len(samples)
        due = 0
        while due < len(self._left) and self._left[due].end <= self._fed / 24_000:
            due += 1
        said, self._left = self._left[:due], self._left[due:]
        return said


PauseModel = Callable[[float, int, int], tuple[float, ...]]
"""Seconds without a word so far, steps of the stream, number of heads ->
probabilities, 0 to 1, that no word follows within 0.5, 1, 2, 3 … seconds."""

HORIZONS_S = (0.5, 1.0, 2.0, 3.0)
NOISY_STEPS = 12


def plausible_pauses(silent_s: float, step: int, heads: int) -> tuple[float, ...]:
    """Probabilities as a model might give them: the longer the pause, the surer.

    The two-second head passes 0.6 about 0.75 s after the last word. The first
    twelve steps are noise, as those of the real model.
    """
    if step <= NOISY_STEPS:
        # Pseudo-random, but the same in every run.
        return tuple(0.5 + 0.45 * math.sin(7.1 * step + head) for head in range(heads))
    horizons = [HORIZONS_S[min(head, 3)] for head in range(heads)]
    return tuple(0.98 - 0.96 * math.exp(-silent_s / (0.4 * h)) for h in horizons)


def word_pieces(text: str) -> int:
    """Sentencepiece tokens of a word, roughly: one for each five characters."""
    return max(1, -(-len(text) // 5))


@frozen(kw_only=True)
class Redecoding:
    """How differently audio is heard when it is heard again.

    A model that begins in the middle of a speech has another context: times move
    and words that were spoken closely come as one. The words stay the same.
    """

    seed: int = 0
    """Decides everything, together with the number of the connection."""
    time_s: float = field(default=0.16, validator=validators.ge(0.0))
    """Word starts move by up to this, on the grid of 80 ms; order is kept."""
    splits: bool = True
    """Whether two close words may come as one `Word` with the text `"two words"`."""
    split_probability: float = 0.25
    """How often they do."""
    exact_connections: int = 1
    """So many first connections of the server hear exactly: as many as there are
    sessions. A reset stream never does."""


@frozen(kw_only=True)
class Model:
    """The server's configuration, as far as a client can notice."""

    module: Literal["BatchedAsr", "PyBatchedAsr"] = "BatchedAsr"
    """Module type. `PyBatchedAsr` sends Steps to everybody on every step, Word and
    EndWord together with times that include the delay, and ends a stream after its
    Marker."""
    delay_steps: int = field(default=6, validator=validators.ge(1))
    """`asr_delay_in_tokens`."""
    pause_heads: int = field(default=4, validator=validators.ge(0))
    """Extra heads; without any, `BatchedAsr` sends no Steps."""
    batch_size: int = field(default=8, validator=validators.ge(1))
    """Slots."""
    warm_up_steps: int = 2
    """Steps before the first stream; they count in `step_idx`."""
    pieces: Callable[[str], int] = word_pieces
    """Tokens of a word, which come one a step."""
    pauses: PauseModel = plausible_pauses
    """What the extra heads say."""
    redecoding: Redecoding | None = None
    """How audio is heard on later connections; None: always alike."""


STT_1B = Model()
"""The English and French model: 6 steps (0.48 s) of delay, four pause heads."""
STT_2_6B = Model(delay_steps=32, pause_heads=0)
"""The English model: 32 steps (2.56 s) of delay, no Steps."""
STT_PYTHON = Model(module="PyBatchedAsr")
"""The module whose model is run by Python."""


@frozen(kw_only=True)
class Timers:
    """The server's own time limits, in seconds.

    Source:
        `rust/moshi-server/src/batched_asr.rs` (0.6.4): ping after 10 s, short limit
        twice that (three times in `py_basr_module.rs`), long limit 120 s, 2 ms
        between turns without data.
    """

    ping_s: float = 10.0
    """Without output for so long, the server sends a Ping."""
    silent_s: float | None = None
    """Without any frame (pongs count) for so long, the client is dropped; None for
    the module's own value, 20 or 30 s."""
    binary_s: float = 120.0
    """Without a binary message for longer, the client is dropped at its next frame
    of any kind."""
    idle_turn_s: float = 0.002
    """Pause between two turns of the model loop without a step."""

    def scaled(self, factor: float) -> Timers:
        """The same limits, multiplied; `idle_turn_s` stays."""
        silent = None if self.silent_s is None else self.silent_s * factor
        return evolve(
            self,
            ping_s=self.ping_s * factor,
            silent_s=silent,
            binary_s=self.binary_s * factor,
        )


@frozen(kw_only=True)
class ConnectionPlan:
    """What shall happen on one connection; without arguments: nothing special.

    `after_frames` counts the `Audio` messages with samples that were received. A
    fault at frame n happens when the n-th one comes in, before it is processed; 0
    is right after Ready was sent.
    """

    accept_delay_s: float = 0.0
    """Seconds until the handshake is answered."""
    status: int | None = None
    """Refuse the handshake with this HTTP status: 401, 503 …"""
    full: bool = False
    """Answer "no free channels" although there may be some."""
    close_at_once: int | None = None
    """Accept, then close with this code before anything is said; 1005 for a Close
    without a code, 1006 for none at all."""
    wedged: bool = False
    """The model loop never serves this stream: no Ready."""
    ready_delay_s: float = 0.0
    """Seconds until the model loop begins to serve it."""
    cut_after_frames: int | None = None
    """Abort the TCP connection then."""
    cut_after_steps: int | None = None
    """Abort it when so many steps have been processed and their messages sent."""
    half_open_after_frames: int | None = None
    """From then on nothing is read or sent, but the socket stays."""
    half_open_s: float | None = None
    """For so long; None until `FakeConnection.heal` or the end of the server."""
    stop_reading_after_frames: int | None = None
    """From then on nothing is read; what is to be said is still sent."""
    garbage_after_frames: int | None = None
    """Send bytes that are no MessagePack."""
    unknown_after_frames: int | None = None
    """Send a message of a type that nobody knows."""
    text_after_frames: int | None = None
    """Send a text message, which the protocol does not have."""
    deaf_after_frames: int | None = None
    """From then on the model hears no words, until a reset."""
    duplicate_words: tuple[int, ...] = ()
    """Numbers (from 0) of the words that are sent twice."""
    end_words: Literal["normal", "late", "missing"] = "normal"
    """`normal`: just before the next word; `late`: ten steps after that."""
    empty_first_word: bool = False
    """Begin with a `Word` without text, as the real model sometimes does."""
