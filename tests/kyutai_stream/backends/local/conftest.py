"""A tiny model that says "low" while it hears a low tone and "high" for a high one.

Generated in a second: a Mimi codec with random weights, and a language model whose
weights are written by hand. It runs through the real classes of `moshi`, in the
layout of a published checkpoint. Needs torch and moshi (`make test-local`).
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Samples = npt.NDArray[np.float32]

CODEBOOKS = 8
CARD = 64
LOW_HZ, HIGH_HZ = 200.0, 1500.0

# Directions of the language model's residual that are no tokens.
START, LOUD, PITCH = 62, 61, 60
PAD, EPAD = 3, 0

LM_CONFIG: dict[str, Any] = {
    "dim": 64,
    "text_card": 64,
    "existing_text_padding_id": PAD,
    "n_q": CODEBOOKS,
    "dep_q": 0,
    "card": CARD,
    "num_heads": 4,
    "num_layers": 2,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "context": 50,
    "max_period": 100_000.0,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "delays": [0] * (CODEBOOKS + 1),
    "depformer_dim": 32,
    "depformer_num_heads": 2,
    "depformer_num_layers": 1,
    "extra_heads_num_heads": 4,
    "extra_heads_dim": 6,
}


def tone(hz: float, seconds: float) -> Samples:
    """Loud, 24 kHz, whole frames."""
    count = round(seconds * 12.5) * 1920
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(count) / 24_000)
    return wave.astype(np.float32)


def quiet(seconds: float) -> Samples:
    return np.zeros(round(seconds * 12.5) * 1920, dtype=np.float32)


@pytest.fixture(scope="session")
def low() -> Samples:
    """Two seconds of the low tone between pauses."""
    return np.concatenate((quiet(0.8), tone(LOW_HZ, 2.0), quiet(1.6)))


@pytest.fixture(scope="session")
def high() -> Samples:
    """Two seconds of the high tone between pauses."""
    return np.concatenate((quiet(0.8), tone(HIGH_HZ, 2.0), quiet(1.6)))


@pytest.fixture(scope="session")
def needs_moshi() -> None:
    """Skip where the model cannot run."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "moshi")):
        pytest.skip("torch and moshi are not installed here: `make test-local`")


@pytest.fixture(scope="session")
def tiny_folder(needs_moshi: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with the model that knows two tones."""
    return _generate(tmp_path_factory.mktemp("tiny"), listens=True)


@pytest.fixture(scope="session")
def random_folder(needs_moshi: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder whose language model is random: all that was ever heard
    in a stream changes what it says next."""
    return _generate(tmp_path_factory.mktemp("random"), listens=False)


def _generate(folder: Path, *, listens: bool) -> Path:
    import torch
    from moshi.models import loaders
    from safetensors.torch import save_file

    torch.manual_seed(7)
    torch.set_num_threads(1)
    codec = _codec_config(loaders)
    mimi = loaders.get_mimi(None, mimi_config=codec, num_codebooks=CODEBOOKS)
    _fill_codebooks(mimi)
    lm = loaders.get_moshi_lm(None, lm_kwargs=dict(LM_CONFIG), dtype=torch.float32)
    tokenizer = _tokenizer()
    if listens:
        _write_weights(lm, _codes_by_sound(mimi), tokenizer)
    config = LM_CONFIG | {
        "model_type": "stt",
        "moshi_name": "model.safetensors",
        "mimi_name": "mimi.safetensors",
        "mimi_config_name": "mimi.json",
        "tokenizer_name": "tokenizer_en_audio_25.model",
        "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mimi.json").write_text(json.dumps(codec))
    (folder / "tokenizer_en_audio_25.model").write_bytes(tokenizer)
    save_file(_plain(lm), str(folder / "model.safetensors"))
    save_file(_plain(mimi), str(folder / "mimi.safetensors"))
    return folder


def _plain(module: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _codec_config(loaders: Any) -> dict[str, Any]:
    published: dict[str, Any] = loaders._mimi_config
    return {
        "sample_rate": 24_000,
        "channels": 1,
        "frame_rate": 12.5,
        "seanet": published["seanet"] | {"n_filters": 8, "dimension": 64},
        "transformer": published["transformer"]
        | {
            "d_model": 64,
            "num_heads": 4,
            "num_layers": 1,
            "dim_feedforward": 64,
            "input_dimension": 64,
            "output_dimensions": [64],
        },
        "quantizer": {
            "dimension": 16,
            "n_q": CODEBOOKS,
            "bins": CARD,
            "input_dimension": 64,
            "output_dimension": 64,
        },
    }


def _sounds() -> dict[str, Samples]:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=1920 * 60) * np.repeat(rng.uniform(0, 0.6, 60), 1920)
    lengths = (0.8, 1.2, 2.0, 3.2)
    return {
        "quiet": quiet(4.0),
        "low": _between_pauses([tone(LOW_HZ, length) for length in lengths]),
        "high": _between_pauses([tone(HIGH_HZ, length) for length in lengths]),
        "noise": noise.astype(np.float32),
    }


def _between_pauses(sounds: list[Samples]) -> Samples:
    parts = [part for sound in sounds for part in (sound, quiet(2.4))]
    return np.concatenate([quiet(0.8), *parts])


def _fill_codebooks(mimi: Any) -> None:
    """Take the vectors of the first codebook from what the random encoder makes of
    some sounds, so that its codes tell them apart."""
    import torch
    from moshi.utils.compile import no_compile

    for name, parameter in mimi.encoder.named_parameters():
        if name.endswith("bias"):
            # It would be larger than anything that comes from the sound.
            torch.nn.init.zeros_(parameter)
    for name, buffer in mimi.named_buffers():
        if name.endswith(("_initialized", "cluster_usage")):
            buffer.fill_(1)
        elif name.endswith("embedding_sum"):
            buffer.normal_(std=0.01)
    heard = []
    for samples in _sounds().values():
        with torch.no_grad(), no_compile(), mimi.streaming(1):
            for frame in samples.reshape(-1, 1, 1, 1920):
                latent = mimi._encode_to_unquantized_latent(torch.from_numpy(frame))
                heard.append(mimi.quantizer.rvq_first.input_proj(latent)[0, :, 0])
    picks = np.linspace(0, len(heard) - 1, CARD).round().astype(int)
    codebook = mimi.quantizer.rvq_first.vq.layers[0]._codebook
    codebook.embedding_sum.copy_(torch.stack([heard[pick] for pick in picks]))


def _tokenizer() -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["low high"] * 50 + ["high low"] * 50),
        model_writer=model,
        model_type="bpe",
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=PAD,
        unk_id=EPAD,
        bos_id=1,
        eos_id=2,
        minloglevel=2,
    )
    return model.getvalue()


def _codes_by_sound(mimi: Any) -> dict[str, Counter[tuple[int, int]]]:
    """How often each code of each codebook comes for silence and for the tones.

    The codec remembers: silence after a tone sounds different from silence before.
    """
    import torch
    from moshi.utils.compile import no_compile

    found = {name: Counter[tuple[int, int]]() for name in ("quiet", "low", "high")}
    for name, samples in _sounds().items():
        if name not in found:
            continue
        silent_for = 1
        with torch.no_grad(), no_compile(), mimi.streaming(1):
            for frame in samples.reshape(-1, 1, 1, 1920):
                silent_for = 0 if frame.any() else silent_for + 1
                codes = mimi.encode(torch.from_numpy(frame))[0, :, 0].tolist()
                found["quiet" if silent_for > 1 else name].update(enumerate(codes))
    return found


def _write_weights(
    lm: Any, codes: dict[str, Counter[tuple[int, int]]], tokenizer: bytes
) -> None:
    """A chain of tokens: padding until it is loud, then the word of the tone."""
    import sentencepiece
    import torch

    words = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    low = [words.piece_to_id(piece) for piece in ("▁lo", "w")]
    high = [words.piece_to_id(piece) for piece in ("▁hi", "gh")]
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if "norm" in name:
                weight.fill_(1.0)
            elif not name.startswith("depformer"):
                weight.zero_()
        for token in (PAD, EPAD, *low, *high):
            lm.text_emb.weight[token, token] = 1.0
        lm.text_emb.weight[LM_CONFIG["text_card"], START] = 1.0
        for book, code in codes["low"] | codes["high"]:
            if not codes["quiet"][book, code]:
                lm.emb[book].weight[code, LOUD] = 1.0
                as_low, as_high = codes["low"][book, code], codes["high"][book, code]
                pitch = (as_low - as_high) / (as_low + as_high)
                lm.emb[book].weight[code, PITCH] = pitch
        follows = lm.text_linear.weight
        follows[PAD, START] = 1000.0
        follows[PAD, PAD], follows[EPAD, PAD], follows[EPAD, LOUD] = 200.0, 198.0, 4.0
        # The tone may have ended after the end-of-padding: then no word.
        follows[PAD, EPAD] = 204.0
        for pieces, sign in ((low, 1.0), (high, -1.0)):
            follows[pieces[0], EPAD], follows[pieces[0], PITCH] = 200.0, 8.0 * sign
            follows[pieces[1], pieces[0]] = 1000.0
            follows[PAD, pieces[1]] = 1000.0
        for head in lm.extra_heads:
            head.weight[0, PAD] = 1.0
            head.weight[0, LOUD] = -1.0
