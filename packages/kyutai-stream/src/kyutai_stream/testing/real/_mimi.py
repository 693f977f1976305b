# SPDX-License-Identifier: MIT
"""Weights for the full-size Mimi encoder, crafted so that it hears the tone words.

moshi-server's Mimi cannot be made smaller, so its 246 tensors (334 MB) are needed;
all but a few are zeros. What is left makes the encoder compute this for each frame
of 80 ms: its correlation with cosine and sine of the 13 frequencies of
`kyutai_stream.testing.tones`. Three codebooks then name the three strongest tones:
each holds every tone in `PHASES` phases and some amplitudes, and silence. What one
codebook has found is taken away before the next one looks (residual quantisation).

How: the strided convolutions only move samples into channels (4 · 5 · 6 · 8 = 960
samples = 40 ms), with a constant added so that ELU changes nothing; the last
convolution correlates; the transformer is the identity; the last downsampling adds
two halves of 40 ms. Only taps at the newest samples are used, so that no state of
an earlier stream matters.

Source:
    Names and shapes: crate `moshi` 0.6.4, `mimi.rs`, `seanet.rs`, `conv.rs`,
    `quantization.rs`, `transformer.rs` (read, and loaded by moshi-server 0.6.4).
"""

from __future__ import annotations

import numpy as np

from ..tones import TONES_HZ
from ._tensors import Array, Zeros

__all__ = ["BINS", "EARS", "PHASES", "hear", "mimi_tensors", "tone_of_code"]

BINS = 2048
"""Codebook entries."""
PHASES = 16
"""Codebook entries for each tone and amplitude."""
EARS = (1, 2, 3)
"""The codebooks that name tones."""

_BLOCK = 960
_RATE = 24_000
# Of one tone; the first is that of `speak` at its default level. A tone that fills
# less than half a frame of 80 ms is below half of it, and not heard.
_AMPLITUDES = (0.145, 0.22, 0.33)
_SHIFT = 2.0
_RATIOS = (4, 5, 6, 8)
_FILTERS = 64
_DIM = 512
_CODE_DIM = 256
_LAYERS = 8
_FAR = 1.0e3

Tensors = dict[str, Array | Zeros]


def tone_of_code(code: int) -> int | None:
    """Which tone a code of an ear stands for, None for silence."""
    per_tone = PHASES * len(_AMPLITUDES)
    return (code - 1) // per_tone if 1 <= code <= per_tone * len(TONES_HZ) else None


def hear(samples: Array) -> list[tuple[int | None, ...]]:
    """Do in numpy what the encoder does.

    Args:
        samples: Mono PCM, float32, 24 000 Hz, shape `(n,)`; an incomplete frame at
            the end is left out.

    Returns:
        For each frame of 1920 samples what each of the `EARS` names.
    """
    codes = _codebook()
    half_squares = np.square(codes).sum(axis=1) / 2
    frames = len(samples) // (2 * _BLOCK)
    blocks = samples[: frames * 2 * _BLOCK].reshape(frames, 2, _BLOCK)
    rest = np.zeros((frames, _CODE_DIM), np.float32)
    rest[:, : 2 * len(TONES_HZ)] = (blocks @ _templates().T).sum(axis=1)
    named = []
    for _ in EARS:
        nearest = (half_squares - rest @ codes.T).argmin(axis=1)
        rest -= codes[nearest]
        named.append([tone_of_code(int(code)) for code in nearest])
    return list(zip(*named, strict=True))


def mimi_tensors(codebooks: int) -> Tensors:
    """Return all tensors of encoder, decoder and quantizer.

    Args:
        codebooks: Number of codebooks, at least 4.
    """
    tensors: Tensors = {}
    _encoder(tensors)
    _decoder(tensors)
    for side in ("encoder", "decoder"):
        for layer in range(_LAYERS):
            _transformer_layer(
                tensors, f"{side}_transformer.transformer.layers.{layer}"
            )
    downsample = np.zeros((_DIM, _DIM, 4), np.float32)
    downsample[:, :, 2] = downsample[:, :, 3] = np.eye(_DIM)
    tensors["downsample.conv.conv.conv.weight"] = downsample
    tensors["upsample.convtr.convtr.convtr.weight"] = Zeros((_DIM, 1, 4))
    _quantizer(tensors, codebooks)
    return tensors


def _conv(
    tensors: Tensors, name: str, weight: Array | Zeros, bias: Array | None = None
) -> None:
    tensors[f"{name}.weight"] = weight
    outputs = weight.shape[0]
    tensors[f"{name}.bias"] = Zeros((outputs,)) if bias is None else bias


def _resnet_block(tensors: Tensors, name: str, channels: int) -> None:
    """A residual block that adds nothing to its input."""
    half = channels // 2
    _conv(tensors, f"{name}.1.conv.conv", Zeros((half, channels, 3)))
    _conv(tensors, f"{name}.3.conv.conv", Zeros((channels, half, 1)))


def _encoder(tensors: Tensors) -> None:
    weight = np.zeros((_FILTERS, 1, 7), np.float32)
    weight[0, 0, -1] = 1.0
    bias = np.zeros(_FILTERS, np.float32)
    bias[0] = _SHIFT
    _conv(tensors, "encoder.model.0.conv.conv", weight, bias)
    channels = _FILTERS
    # order[c] = which sample of its block channel c holds, newest block only.
    order = np.zeros(1, np.int64)
    for stage, ratio in enumerate(_RATIOS):
        at = 1 + 3 * stage
        _resnet_block(tensors, f"encoder.model.{at}.block", channels)
        weight = np.zeros((2 * channels, channels, 2 * ratio), np.float32)
        # A block of the finer stage is `size` samples long, `ratio` of them follow.
        size = len(order)
        for tap in range(ratio):
            for channel in range(size):
                weight[tap * size + channel, channel, ratio + tap] = 1.0
        order = np.concatenate([tap * size + order for tap in range(ratio)])
        channels *= 2
        _conv(tensors, f"encoder.model.{at + 2}.conv.conv", weight)
    templates = _templates()[:, order]
    weight = np.zeros((_DIM, channels, 3), np.float32)
    weight[: len(templates), :_BLOCK, -1] = templates
    bias = np.zeros(_DIM, np.float32)
    bias[: len(templates)] = -_SHIFT * templates.sum(axis=1)
    _conv(tensors, "encoder.model.14.conv.conv", weight, bias)


def _templates() -> Array:
    """Correlators of shape `(26, 960)`; two blocks of a tone give its amplitude.

    All tones have whole periods in a block, so they do not disturb each other.
    """
    angles = 2 * np.pi * np.outer(TONES_HZ, np.arange(_BLOCK) / _RATE)
    both = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    return (both.reshape(-1, _BLOCK) / _BLOCK).astype(np.float32)


def _decoder(tensors: Tensors) -> None:
    """The decoder is loaded but never run by the recogniser."""
    channels = _FILTERS * 2 ** len(_RATIOS)
    _conv(tensors, "decoder.model.0.conv.conv", Zeros((channels, _DIM, 7)))
    for stage, ratio in enumerate(reversed(_RATIOS)):
        at, half = 2 + 3 * stage, channels // 2
        name = f"decoder.model.{at}.convtr.convtr"
        tensors[f"{name}.weight"] = Zeros((channels, half, 2 * ratio))
        tensors[f"{name}.bias"] = Zeros((half,))
        _resnet_block(tensors, f"decoder.model.{at + 1}.block", half)
        channels = half
    _conv(tensors, "decoder.model.14.conv.conv", Zeros((1, _FILTERS, 3)))


def _transformer_layer(tensors: Tensors, name: str) -> None:
    """A layer that adds nothing to its input."""
    for norm in ("norm1", "norm2"):
        tensors[f"{name}.{norm}.weight"] = np.ones(_DIM, np.float32)
        tensors[f"{name}.{norm}.bias"] = Zeros((_DIM,))
    for scale in ("layer_scale_1", "layer_scale_2"):
        tensors[f"{name}.{scale}.scale"] = Zeros((_DIM,))
    tensors[f"{name}.self_attn.in_proj_weight"] = Zeros((3 * _DIM, _DIM))
    tensors[f"{name}.self_attn.out_proj.weight"] = Zeros((_DIM, _DIM))
    tensors[f"{name}.linear1.weight"] = Zeros((4 * _DIM, _DIM))
    tensors[f"{name}.linear2.weight"] = Zeros((_DIM, 4 * _DIM))


def _quantizer(tensors: Tensors, codebooks: int) -> None:
    for part, count in (("rvq_first", 1), ("rvq_rest", codebooks - 1)):
        name = f"quantizer.{part}"
        project = np.zeros((_CODE_DIM, _DIM, 1), np.float32)
        project[:, :_CODE_DIM, 0] = np.eye(_CODE_DIM)
        tensors[f"{name}.input_proj.weight"] = project
        tensors[f"{name}.output_proj.weight"] = Zeros((_DIM, _CODE_DIM, 1))
        for layer in range(count):
            book = f"{name}.vq.layers.{layer}._codebook"
            tensors[f"{book}._initialized"] = np.ones(1, np.float32)
            tensors[f"{book}.cluster_usage"] = np.ones(BINS, np.float32)
            tensors[f"{book}.embedding_sum"] = (
                _codebook() if part == "rvq_rest" and layer < len(EARS) else _silence()
            )


def _silence() -> Array:
    """Entry 0 is silence; the others are out of reach."""
    codes = np.zeros((BINS, _CODE_DIM), np.float32)
    codes[1:, -1] = _FAR
    return codes


def _codebook() -> Array:
    """Entry 0 is silence, then each tone in all amplitudes and phases."""
    codes = _silence()
    angles = 2 * np.pi * np.arange(PHASES) / PHASES
    circle = np.concatenate(
        [level * np.stack((np.cos(angles), np.sin(angles)), 1) for level in _AMPLITUDES]
    )
    for tone in range(len(TONES_HZ)):
        rows = slice(1 + tone * len(circle), 1 + (tone + 1) * len(circle))
        codes[rows] = 0.0
        codes[rows, 2 * tone : 2 * tone + 2] = circle
    return codes
