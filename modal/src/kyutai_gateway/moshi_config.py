# SPDX-License-Identifier: MIT
"""The configuration file of moshi-server, written from the gateway's settings.

Values of the published models: the configurations of Kyutai's
delayed-streams-modeling and the model cards; the server is release 0.6.4.

What is never written: `log_frequency_s`, with which the server puts on disk what it
hears; module types other than `BatchedAsr`, of which one logs words; paths that
make it download something.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from attrs import frozen

from ._variables import SettingsError, variable
from .settings import GatewaySettings

__all__ = [
    "PATH",
    "SHAPES",
    "ModelShape",
    "WeightFiles",
    "moshi_config",
    "new_key",
    "weight_files",
    "write_config",
]

PATH = "/api/asr-streaming"
"""Path of the stream on the server."""

LM_NAME = "model.safetensors"
MIMI_NAME = "mimi-pytorch-e351c8d8@125.safetensors"

_AUDIO_VOCABULARY = 2049
"""2048 entries of a Mimi codebook and the start token."""
_HEAD_DIM = 6


@frozen(kw_only=True)
class ModelShape:
    """What the server must be told of a model; it cannot read it from the weights."""

    delay_frames: int
    """`asr_delay_in_tokens`: frames of 80 ms that words are behind."""
    text_vocabulary: int
    """Text tokens; the input has one more, for the start."""
    layers: int
    heads: int
    context: int
    """Frames that it remembers."""
    pause_heads: int
    """Heads that tell pauses; without them the server sends no steps."""
    tokenizer_name: str
    """Published file name of the text tokenizer."""
    d_model: int = 2048
    feed_forward: int = 8192
    max_seq_len: int = 40960


SHAPES = {
    "stt-1b-en_fr": ModelShape(
        delay_frames=6,
        text_vocabulary=8000,
        layers=16,
        heads=16,
        context=750,
        pause_heads=4,
        tokenizer_name="tokenizer_en_fr_audio_8000.model",
    ),
    "stt-2.6b-en": ModelShape(
        delay_frames=32,
        text_vocabulary=4000,
        layers=48,
        heads=32,
        context=375,
        pause_heads=0,
        tokenizer_name="tokenizer_en_audio_4000.model",
    ),
}
"""By model name."""


@frozen(kw_only=True)
class WeightFiles:
    """Where the three files of a model are."""

    lm: Path
    """Language model, safetensors for the Rust server (`…-candle`)."""
    mimi: Path
    """Audio tokenizer."""
    tokenizer: Path
    """Text tokenizer, a sentencepiece model."""


def weight_files(settings: GatewaySettings, shape: ModelShape) -> WeightFiles:
    """Return the files; blocks for a moment.

    Raises:
        SettingsError: If one is not there.
    """
    return WeightFiles(
        lm=_file(settings, "lm_file", LM_NAME),
        mimi=_file(settings, "mimi_file", MIMI_NAME),
        tokenizer=_file(settings, "tokenizer_file", shape.tokenizer_name),
    )


def new_key() -> str:
    """Return a key that nobody can guess, for one start of the server."""
    return secrets.token_urlsafe(32)


def moshi_config(
    settings: GatewaySettings,
    files: WeightFiles,
    *,
    shape: ModelShape,
    folder: Path,
    key: str,
) -> str:
    """Return the configuration as TOML.

    Args:
        settings: Slots, sampling, codebooks, number format.
        files: Local weights.
        shape: What kind of model they are.
        folder: Holds `static` and `log`, both empty: the server hands out every
            file of the first to anybody.
        key: The only one that it accepts.
    """
    return "\n".join(
        [
            *_server(folder, key),
            *_module(settings, files, shape),
            *_model(settings, shape),
            *_transformer(shape),
            "",
        ]
    )


def write_config(folder: Path, text: str) -> Path:
    """Write the file, readable for this user only, and the folders it names; blocks.

    Returns:
        The path of the file.
    """
    for name in ("static", "log"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    path = folder / "moshi-server.toml"
    path.unlink(missing_ok=True)
    # Never readable by others, not even for a moment: it holds the key.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _file(settings: GatewaySettings, field: str, name: str) -> Path:
    given: Path | None = getattr(settings, field)
    where = variable(field)
    if given is None:
        if settings.weights_dir is None:
            raise SettingsError(f"{where} is not set")
        given, where = settings.weights_dir / name, variable("weights_dir")
    if not given.is_file():
        raise SettingsError(f"{where}: there is no file {given}")
    return given


def _text(value: Path | str) -> str:
    """A TOML basic string; settings let no control characters through."""
    return json.dumps(str(value), ensure_ascii=False)


def _server(folder: Path, key: str) -> list[str]:
    return [
        f"static_dir = {_text(folder / 'static')}",
        f"log_dir = {_text(folder / 'log')}",
        'instance_name = "stt"',
        f"authorized_ids = [{_text(key)}]",
    ]


def _module(
    settings: GatewaySettings, files: WeightFiles, shape: ModelShape
) -> list[str]:
    lines = [
        "",
        "[modules.asr]",
        f"path = {_text(PATH)}",
        'type = "BatchedAsr"',
        f"lm_model_file = {_text(files.lm)}",
        f"text_tokenizer_file = {_text(files.tokenizer)}",
        f"audio_tokenizer_file = {_text(files.mimi)}",
        f"asr_delay_in_tokens = {shape.delay_frames}",
        f"batch_size = {settings.slots}",
        "conditioning_learnt_padding = true",
        f"temperature = {float(settings.temperature)!r}",
    ]
    if settings.dtype != "auto":
        lines.append(f"dtype_override = {_text(settings.dtype)}")
    return lines


def _model(settings: GatewaySettings, shape: ModelShape) -> list[str]:
    lines = [
        "",
        "[modules.asr.model]",
        f"audio_vocab_size = {_AUDIO_VOCABULARY}",
        f"text_in_vocab_size = {shape.text_vocabulary + 1}",
        f"text_out_vocab_size = {shape.text_vocabulary}",
        f"audio_codebooks = {settings.codebooks}",
    ]
    if shape.pause_heads:
        lines += [
            "",
            "[modules.asr.model.extra_heads]",
            f"num_heads = {shape.pause_heads}",
            f"dim = {_HEAD_DIM}",
        ]
    return lines


def _transformer(shape: ModelShape) -> list[str]:
    return [
        "",
        "[modules.asr.model.transformer]",
        f"d_model = {shape.d_model}",
        f"num_heads = {shape.heads}",
        f"num_layers = {shape.layers}",
        f"dim_feedforward = {shape.feed_forward}",
        f"context = {shape.context}",
        f"max_seq_len = {shape.max_seq_len}",
        "max_period = 100000",
        "causal = true",
        "norm_first = true",
        "bias_ff = false",
        "bias_attn = false",
        "use_conv_block = false",
        "use_conv_bias = true",
        'gating = "silu"',
        'norm = "RmsNorm"',
        'positional_embedding = "Rope"',
        "conv_layout = false",
        "conv_kernel_size = 3",
        "kv_repeat = 1",
    ]
