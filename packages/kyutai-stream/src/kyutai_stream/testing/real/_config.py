# SPDX-License-Identifier: MIT
"""The configuration file of moshi-server for the generated models."""

from __future__ import annotations

import json
from pathlib import Path

from ._lm import (
    CODEBOOKS,
    CONTEXT,
    D_MODEL,
    FEED_FORWARD,
    HEADS,
    MAX_PERIOD,
    TEXT_TOKENS,
)
from ._mimi import BINS
from ._weights import DELAY, ModelFiles

__all__ = ["API_KEY", "PATH", "server_config"]

API_KEY = "public_token"
"""The only key that the server accepts."""

PATH = "/api/asr-streaming"
"""Path of the stream."""

_MODEL = f"""\
[modules.asr.model]
audio_vocab_size = {BINS + 1}
text_in_vocab_size = {TEXT_TOKENS + 1}
text_out_vocab_size = {TEXT_TOKENS}
audio_codebooks = {CODEBOOKS}

[modules.asr.model.transformer]
d_model = {D_MODEL}
num_heads = {HEADS}
num_layers = 1
dim_feedforward = {FEED_FORWARD}
causal = true
norm_first = true
bias_ff = false
bias_attn = false
context = {CONTEXT}
max_period = {MAX_PERIOD}
use_conv_block = false
use_conv_bias = true
gating = "silu"
norm = "RmsNorm"
positional_embedding = "Rope"
conv_layout = false
conv_kernel_size = 3
kv_repeat = 1
max_seq_len = 4096
"""
"""The shape of the generated models."""

_HEADS = """
[modules.asr.model.extra_heads]
num_heads = 4
dim = 6
"""


def server_config(
    files: ModelFiles, *, folder: Path, batch_size: int, extra_heads: bool
) -> str:
    """Return the configuration as TOML.

    `log_frequency_s` stays unset, as with it the server writes what it hears to
    disk; `static_dir` is empty, as the server hands out all files in it.

    Args:
        files: The model.
        folder: Holds the empty folder `static` and the server's own daily log.
        batch_size: Streams at a time; all of them are computed at each step.
        extra_heads: Whether the model has heads for pauses. Without them, as in the
            2.6B model, the server sends no `Step`.
    """

    def text(value: Path | str) -> str:
        return json.dumps(str(value))

    return f"""\
static_dir = {text(folder / "static")}
log_dir = {text(folder)}
instance_name = "stt"
authorized_ids = [{text(API_KEY)}]

[modules.asr]
path = {text(PATH)}
type = "BatchedAsr"
lm_model_file = {text(files.lm)}
text_tokenizer_file = {text(files.tokenizer)}
audio_tokenizer_file = {text(files.mimi)}
asr_delay_in_tokens = {DELAY}
batch_size = {batch_size}
conditioning_learnt_padding = true
temperature = 0.0
dtype_override = "f32"

{_MODEL}{_HEADS if extra_heads else ""}"""
