from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream import available_backends, get_backend
from kyutai_stream.backends.local import LocalBackend, LocalSettings, Recogniser
from kyutai_stream.backends.local._settings import (
    HORIZONS_S,
    ModelFacts,
    facts_of_config,
)
from kyutai_stream.errors import BackendUnavailable, ConfigError


def never(settings: LocalSettings) -> Recogniser:
    raise AssertionError("nothing is loaded before somebody connects")


def backend(**settings: Any) -> LocalBackend:
    return LocalBackend(load=never, **settings)


def folder(path: Path, config: object) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_the_default_is_the_bilingual_model() -> None:
    capabilities = backend().capabilities
    assert capabilities.languages == ("en", "fr")
    assert capabilities.nominal_delay_s == pytest.approx(0.48)
    assert capabilities.pause_horizons_s == HORIZONS_S
    assert capabilities.silence_prefix_s == 0.0
    assert capabilities.max_sessions == 4
    assert capabilities.acks and capabilities.resettable and capabilities.transcribes


def test_the_english_model() -> None:
    capabilities = backend(hf_repo="kyutai/stt-2.6b-en", slots=2).capabilities
    assert capabilities.languages == ("en",)
    assert capabilities.nominal_delay_s == pytest.approx(2.56)
    assert capabilities.pause_horizons_s == ()
    assert capabilities.silence_prefix_s == 1.0
    assert capabilities.max_sessions == 2


def test_a_folder_says_itself_what_it_is(tmp_path: Path) -> None:
    config = {
        "dep_q": 0,
        "tokenizer_name": "tokenizer_en_fr_audio_8000.model",
        "extra_heads_num_heads": 4,
        "stt_config": {
            "audio_delay_seconds": 2.5,
            "audio_silence_prefix_seconds": 1.0,
        },
    }
    capabilities = backend(directory=folder(tmp_path, config)).capabilities
    assert capabilities.languages == ("en", "fr")
    assert capabilities.nominal_delay_s == pytest.approx(2.56)
    assert capabilities.pause_horizons_s == HORIZONS_S
    assert capabilities.silence_prefix_s == 1.0


def test_languages_can_be_told(tmp_path: Path) -> None:
    path = folder(tmp_path, {"dep_q": 0})
    assert backend(directory=path).capabilities.languages == ()
    assert backend(directory=path, languages="de, nl").capabilities.languages == (
        "de",
        "nl",
    )
    assert backend(languages=("en",)).capabilities.languages == ("en",)


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        ({"hf_repo": "a/b", "directory": "c"}, "either"),
        ({"hf_repo": "no owner"}, "owner/name"),
        ({"directory": "/no/such/folder"}, "no model in"),
        ({"device": "gpu"}, "device"),
        ({"device": "cuda:x"}, "device"),
        ({"dtype": "int8"}, "dtype"),
        ({"slots": 0}, "slots"),
        ({"slots": 257}, "slots"),
        ({"slots": 1.5}, "slots"),
        ({"slots": True}, "slots"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"languages": "english"}, "languages"),
        ({"languages": ()}, "languages"),
        ({"ready_timeout_s": 0.0}, "ready_timeout_s"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], about: str) -> None:
    with pytest.raises(ConfigError, match=about):
        get_backend("local", load=never, **settings)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"dep_q": 8}', "[" * 100_000])
def test_a_folder_of_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        backend(directory=tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "stt_config": st.fixed_dictionaries(
                {},
                optional={
                    "audio_delay_seconds": JSON,
                    "audio_silence_prefix_seconds": JSON,
                },
            )
            | JSON,
            "extra_heads_num_heads": JSON,
            "tokenizer_name": JSON,
        },
    )
)
def test_any_config_gives_usable_facts(config: dict[str, object]) -> None:
    facts = facts_of_config(config)
    assert isinstance(facts, ModelFacts)
    assert 0 <= facts.delay_s <= 61
    assert 0 <= facts.silence_prefix_s <= 60


def test_without_torch_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name in ("torch", "moshi") else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(BackendUnavailable, match=r"kyutai-stream\[local\]") as raised:
        get_backend("local")
    assert "--no-deps moshi==0.2.13" in str(raised.value)
    (info,) = [info for info in available_backends() if info.name == "local"]
    assert info.error is not None
    assert "kyutai-stream[local]" in info.error
