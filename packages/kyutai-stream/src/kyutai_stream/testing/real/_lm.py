# SPDX-License-Identifier: MIT
"""Weights for a tiny language model that does what a table says.

The model is a transformer of one layer whose attention always looks exactly
`look_back` steps back (the rotary position code makes one distance win), and copies
from there either the text token or what Mimi heard. The next token is then chosen
by the sum of two tables: one row for the last text token, one for what was copied.

* **Script**: speaks the same words in turn whatever it hears. After the padding's
  end it starts the word that follows the word before.
* **Listen**: says each word of `kyutai_stream.testing.tones` that it hears, once.
  Any two words have at most one tone in common, so counting tones is enough.

Source:
    Names and shapes: crate `moshi` 0.6.4, `lm.rs`, `batched_transformer.rs`,
    `transformer.rs` (read, and loaded by moshi-server 0.6.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from attrs import frozen

from ..tones import TONES_HZ, VOCABULARY, chord_hz
from ._mimi import BINS, EARS, tone_of_code
from ._tensors import Array, Zeros

__all__ = [
    "CODEBOOKS",
    "CONTEXT",
    "D_MODEL",
    "EPAD",
    "FEED_FORWARD",
    "FIRST_WORD",
    "HEADS",
    "HOLD",
    "MAX_PERIOD",
    "PAD",
    "START",
    "TEXT_TOKENS",
    "Tables",
    "heard_vector",
    "listen_tables",
    "lm_tensors",
    "script_tables",
    "text_vector",
]

PAD = 3
EPAD = 0
"""Ends the padding: the next word begins."""
HOLD = 1
"""A control piece without text: keeps a word open while its tone lasts."""
FIRST_WORD = 4
TEXT_TOKENS = 64
START = TEXT_TOKENS
"""What the model is told to have said before the first step."""

CODEBOOKS = 8
D_MODEL = 256
HEADS = 4
CONTEXT = 50
"""Steps of memory."""
FEED_FORWARD = 4 * D_MODEL
MAX_PERIOD = 100_000

_TEXT = 0
_CONSTANT = START + 1
_HEARD = 66
"""First of the channels for what Mimi heard: 13 tones, then one "nothing" an ear."""
_COPIED = 132
"""First of the channels that attention fills, as wide as what it copies."""
_WIDTH = START + 1
_NOTHING = len(TONES_HZ)
_SHARPNESS = 1000.0

_STRONG, _PREFERRED, _TONE = 30.0, 5.0, 2.0

_SPEECH_ODDS = tuple(math.log(5 * p / (1 - p)) for p in (0.05, 0.04, 0.03, 0.02))
_PAUSE_ODDS = tuple(math.log(5 * p / (1 - p)) for p in (0.95, 0.85, 0.75, 0.65))


@frozen(kw_only=True)
class Tables:
    """What the model says next: the best of `after[token] + seen @ copied`."""

    after: Array
    """Scores of the next token by the last one, shape `(64, 65)`."""
    seen: Array
    """Scores of the next token by the channels that were copied, shape `(64, 65)`."""
    look_back: int
    """Steps back to copy from."""
    listens: bool
    """Whether what Mimi heard is copied, rather than the text token."""


def text_vector(token: int) -> Array:
    """The channels of a text token."""
    vector = np.zeros(_WIDTH, np.float32)
    vector[token] = 1.0
    return vector


def heard_vector(named: Sequence[int | None]) -> Array:
    """The channels for what each ear names; 1.0 in each of them."""
    vector = np.zeros(_WIDTH, np.float32)
    for ear, tone in enumerate(named):
        vector[_NOTHING + ear if tone is None else tone] += 1.0
    return vector


def script_tables(words: Sequence[Sequence[int]]) -> Tables:
    """Speak words in turn, without listening, in cycles of PAD, EPAD and pieces.

    Args:
        words: Token numbers of each word; no token may occur twice.
    """
    after = np.zeros((TEXT_TOKENS, _WIDTH), np.float32)
    seen = np.zeros((TEXT_TOKENS, _WIDTH), np.float32)
    after[PAD, START] = after[EPAD, PAD] = _STRONG
    for index, word in enumerate(words):
        after[word[0], EPAD] = _STRONG
        for this, following in zip(word, [*word[1:], PAD], strict=True):
            after[following, this] = _STRONG
        # Two steps before EPAD stands the last piece of the word before.
        seen[words[(index + 1) % len(words)][0], word[-1]] = _PREFERRED
    seen[words[0][0], START] = _PREFERRED
    return Tables(after=after, seen=seen, look_back=2, listens=False)


def listen_tables(look_back: int) -> Tables:
    """Say the word of each chord that is heard: EPAD, the word, HOLD until it ends.

    One tone alone counts as silence, two as speech: frames at the edge of a word
    hold less of it.

    Args:
        look_back: Delay in steps between hearing and saying.
    """
    after = np.zeros((TEXT_TOKENS, _WIDTH), np.float32)
    seen = np.zeros((TEXT_TOKENS, _WIDTH), np.float32)
    words = range(FIRST_WORD, FIRST_WORD + len(VOCABULARY))
    for number, word in zip(words, VOCABULARY, strict=True):
        for hz in chord_hz(word):
            seen[number, TONES_HZ.index(int(hz))] = _TONE
    # 70 in silence, 40 with one tone, 10 with two, -20 with three.
    after[PAD] = -20.0
    seen[PAD, _NOTHING : _NOTHING + len(EARS)] = 30.0
    after[EPAD, [PAD, START]] = _STRONG
    after[HOLD, [HOLD, *words]] = _STRONG
    return Tables(after=after, seen=seen, look_back=look_back, listens=True)


def lm_tensors(tables: Tables) -> dict[str, Array | Zeros]:
    """Return all tensors of the model, extra heads included."""
    source = _HEARD if tables.listens else _TEXT
    # Squared lengths before and behind the attention, equal for (nearly) all input.
    copied = len(EARS) if tables.listens else 1
    length = 2 + (len(EARS) if tables.listens else 0)
    hidden = 11 * D_MODEL // 4
    layer = "transformer.layers.0"
    tensors: dict[str, Array | Zeros] = {
        "text_emb.weight": _text_embedding(),
        "text_linear.weight": _next_token(tables),
        # Undoes the division by the root mean square, which never varies.
        "out_norm.alpha": _norm(length + copied),
        f"{layer}.norm1.alpha": _norm(length),
        f"{layer}.norm2.alpha": _norm(length + copied),
        f"{layer}.self_attn.in_proj_weight": _in_projection(tables.look_back, source),
        f"{layer}.self_attn.out_proj.weight": _out_projection(),
        f"{layer}.gating.linear_in.weight": Zeros((2 * hidden, D_MODEL)),
        f"{layer}.gating.linear_out.weight": Zeros((D_MODEL, hidden)),
    }
    for codebook in range(CODEBOOKS):
        listens = tables.listens and codebook in EARS
        tensors[f"emb.{codebook}.weight"] = (
            _audio_embedding(EARS.index(codebook))
            if listens
            else Zeros((BINS + 1, D_MODEL))
        )
    for head, weight in enumerate(_extra_heads(tables)):
        tensors[f"extra_heads.{head}.weight"] = weight
    return tensors


def _norm(ones: int) -> Array:
    """Scale that makes RmsNorm the identity for vectors of so many ones."""
    return np.full((1, 1, D_MODEL), math.sqrt(ones / D_MODEL), np.float32)


def _text_embedding() -> Array:
    weight = np.zeros((START + 1, D_MODEL), np.float32)
    weight[np.arange(START + 1), _TEXT + np.arange(START + 1)] = 1.0
    weight[:, _CONSTANT] = 1.0
    return weight


def _audio_embedding(ear: int) -> Array:
    weight = np.zeros((BINS + 1, D_MODEL), np.float32)
    # The last row stands for "no audio yet", before the first frame.
    for code in range(BINS + 1):
        tone = tone_of_code(code)
        weight[code, _HEARD + (_NOTHING + ear if tone is None else tone)] = 1.0
    return weight


def _in_projection(look_back: int, source: int) -> Array:
    """Queries and keys are constant, values carry the channels to copy."""
    weight = np.zeros((3, HEADS, D_MODEL // HEADS, D_MODEL), np.float32)
    width = D_MODEL // HEADS
    for pair in range(width // 2):
        turn = look_back * MAX_PERIOD ** (-2 * pair / width)
        length = math.sqrt(_SHARPNESS)
        weight[0, :, 2 * pair, _CONSTANT] = length * math.cos(turn)
        weight[0, :, 2 * pair + 1, _CONSTANT] = -length * math.sin(turn)
        weight[1, :, 2 * pair, _CONSTANT] = length
    values = weight[2].reshape(D_MODEL, D_MODEL)
    values[np.arange(_WIDTH), source + np.arange(_WIDTH)] = 1.0
    return weight.reshape(3 * D_MODEL, D_MODEL)


def _out_projection() -> Array:
    weight = np.zeros((D_MODEL, D_MODEL), np.float32)
    weight[_COPIED + np.arange(_WIDTH), np.arange(_WIDTH)] = 1.0
    return weight


def _next_token(tables: Tables) -> Array:
    weight = np.zeros((TEXT_TOKENS, D_MODEL), np.float32)
    weight[:, _TEXT : _TEXT + _WIDTH] = tables.after
    weight[:, _COPIED : _COPIED + _WIDTH] = tables.seen
    return weight


def _extra_heads(tables: Tables) -> list[Array]:
    """Six classes each; the server reports the softmax of the first."""
    weights = []
    for speech, pause in zip(_SPEECH_ODDS, _PAUSE_ODDS, strict=True):
        weight = np.zeros((6, D_MODEL), np.float32)
        if tables.listens:
            weight[0, _COPIED : _COPIED + _NOTHING] = speech / len(EARS)
            nothing = _COPIED + _NOTHING
            weight[0, nothing : nothing + len(EARS)] = pause / len(EARS)
        else:
            weight[0, _TEXT : _TEXT + _WIDTH] = speech
            weight[0, [_TEXT + PAD, _TEXT + START]] = pause
        weights.append(weight)
    return weights
