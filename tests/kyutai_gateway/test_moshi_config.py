"""The configuration of moshi-server against the values of the published models."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_gateway.config import GatewaySettings, SettingsError
from kyutai_gateway.moshi_config import (
    SHAPES,
    WeightFiles,
    moshi_config,
    new_key,
    weight_files,
    write_config,
)
from kyutai_stream.backends.moshi_server import MODELS

FILES = WeightFiles(lm=Path("/w/lm"), mimi=Path("/w/mimi"), tokenizer=Path("/w/tok"))
SETTINGS = GatewaySettings(
    auth="none", moshi_server=Path("/bin/moshi-server"), weights_dir=Path("/w")
)

TRANSFORMER = {
    "d_model": 2048,
    "dim_feedforward": 8192,
    "max_seq_len": 40960,
    "max_period": 100000,
    "causal": True,
    "norm_first": True,
    "bias_ff": False,
    "bias_attn": False,
    "use_conv_block": False,
    "use_conv_bias": True,
    "gating": "silu",
    "norm": "RmsNorm",
    "positional_embedding": "Rope",
    "conv_layout": False,
    "conv_kernel_size": 3,
    "kv_repeat": 1,
}
SERVER = {
    "static_dir": "/run/static",
    "log_dir": "/run/log",
    "instance_name": "stt",
    "authorized_ids": ["k3y"],
}
MODULE = {
    "path": "/api/asr-streaming",
    "type": "BatchedAsr",
    "lm_model_file": "/w/lm",
    "text_tokenizer_file": "/w/tok",
    "audio_tokenizer_file": "/w/mimi",
    "conditioning_learnt_padding": True,
    "temperature": 0.0,
}


def config(folder: str = "/run", **changes: Any) -> dict[str, Any]:
    settings = attrs.evolve(SETTINGS, **changes)
    text = moshi_config(
        settings,
        FILES,
        shape=SHAPES[settings.model],
        folder=Path(folder),
        key="k3y",
    )
    return tomllib.loads(text)


def test_1b_is_told_as_published() -> None:
    model = {
        "audio_vocab_size": 2049,
        "text_in_vocab_size": 8001,
        "text_out_vocab_size": 8000,
        "audio_codebooks": 32,
        "extra_heads": {"num_heads": 4, "dim": 6},
        "transformer": {
            **TRANSFORMER,
            "num_heads": 16,
            "num_layers": 16,
            "context": 750,
        },
    }
    module = {**MODULE, "asr_delay_in_tokens": 6, "batch_size": 24, "model": model}
    assert config() == {**SERVER, "modules": {"asr": module}}


def test_2_6b_is_told_as_published() -> None:
    model = {
        "audio_vocab_size": 2049,
        "text_in_vocab_size": 4001,
        "text_out_vocab_size": 4000,
        "audio_codebooks": 32,
        "transformer": {
            **TRANSFORMER,
            "num_heads": 32,
            "num_layers": 48,
            "context": 375,
        },
    }
    module = {**MODULE, "asr_delay_in_tokens": 32, "batch_size": 24, "model": model}
    assert config(model="stt-2.6b-en") == {**SERVER, "modules": {"asr": module}}


def test_agrees_with_the_client() -> None:
    assert SHAPES.keys() == MODELS.keys()
    for name, shape in SHAPES.items():
        assert shape.delay_frames == MODELS[name].delay_frames
        assert bool(shape.pause_heads) == MODELS[name].pause_heads


def test_settings_are_in_it() -> None:
    module = config(slots=64, temperature=0.25, codebooks=20, dtype="f32")
    asr = module["modules"]["asr"]
    assert (asr["batch_size"], asr["temperature"]) == (64, 0.25)
    assert asr["model"]["audio_codebooks"] == 20
    assert asr["dtype_override"] == "f32"


def test_nothing_of_what_is_heard_goes_to_disk() -> None:
    for model in SHAPES:
        for temperature in (0, 1):
            read = config(model=model, temperature=temperature)
            assert "log_frequency_s" not in str(read)
            assert "hf://" not in str(read)
            assert [one["type"] for one in read["modules"].values()] == ["BatchedAsr"]


printable = st.text().filter(lambda text: text.isprintable() and "\0" not in text)


@given(printable)
def test_any_path_arrives_as_it_is(name: str) -> None:
    folder = Path("/run") / name.replace("/", "_")
    assert config(str(folder))["log_dir"] == str(folder / "log")


def test_the_file_is_for_its_user_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = write_config(tmp_path, "a = 1\n")
        # A later start writes another key.
        assert write_config(tmp_path, "a = 2\n") == path
    finally:
        os.umask(before)
    assert path.read_text() == "a = 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list((tmp_path / "static").iterdir()) == []
    assert (tmp_path / "log").is_dir()


def test_keys_differ_and_are_fit_for_a_header() -> None:
    keys = {new_key() for _ in range(20)}
    assert len(keys) == 20
    assert all(len(key) >= 40 and key.isascii() and key.isprintable() for key in keys)


def test_finds_the_published_names(tmp_path: Path) -> None:
    shape = SHAPES["stt-1b-en_fr"]
    settings = attrs.evolve(SETTINGS, weights_dir=tmp_path)
    for name in (
        "model.safetensors",
        "mimi-pytorch-e351c8d8@125.safetensors",
        "tokenizer_en_fr_audio_8000.model",
    ):
        with pytest.raises(SettingsError, match="no file"):
            weight_files(settings, shape)
        (tmp_path / name).touch()
    assert weight_files(settings, shape).lm == tmp_path / "model.safetensors"
    other = tmp_path / "other"
    other.touch()
    single = attrs.evolve(settings, mimi_file=other)
    assert weight_files(single, shape).mimi == other


@pytest.mark.parametrize("name", ["lm_file", "mimi_file", "tokenizer_file"])
def test_downloads_nothing(name: str) -> None:
    given: dict[str, Any] = {name: "hf://kyutai/stt-1b-en_fr-candle/x"}
    with pytest.raises(SettingsError, match="nothing is downloaded at start"):
        attrs.evolve(SETTINGS, **given)
