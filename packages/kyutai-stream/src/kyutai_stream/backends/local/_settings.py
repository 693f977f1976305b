# SPDX-License-Identifier: MIT
"""Which model, where, for how many; checked before anything is loaded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import attrs
from attrs import field, frozen

from ...core import FRAME_S
from ...errors import ConfigError

__all__ = [
    "HORIZONS_S",
    "LocalSettings",
    "ModelFacts",
    "facts_of_config",
    "read_config",
]

HORIZONS_S = (0.5, 1.0, 2.0, 3.0)
"""Seconds ahead of the four pause heads of stt-1b-en_fr."""

DELAY_STEPS = {0.5: 6, 2.5: 32}
"""Steps of delay by the `audio_delay_seconds` of the two published models.

Source:
    `asr_delay_in_tokens` of the published moshi-server configurations.
"""

DTYPES = ("auto", "bfloat16", "float16", "float32")

MOST_SLOTS = 256

DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
LANGUAGE = re.compile(r"[a-z]{2}")
TOKENIZER = re.compile(r"tokenizer_((?:[a-z]{2}_)+)audio_")


@frozen(kw_only=True)
class ModelFacts:
    """What the session has to know about a model."""

    languages: tuple[str, ...] = ()
    """ISO 639-1 codes; empty if unknown."""
    delay_steps: int = 6
    """Steps by which the text is behind the audio."""
    silence_prefix_s: float = 0.0
    """Seconds of silence it wants to hear first."""
    horizons_s: tuple[float, ...] = ()
    """Horizons of its pause heads, seconds."""

    @property
    def delay_s(self) -> float:
        """Seconds by which the text is behind the audio."""
        return self.delay_steps * FRAME_S


PUBLISHED = {
    "kyutai/stt-1b-en_fr": ModelFacts(languages=("en", "fr"), horizons_s=HORIZONS_S),
    "kyutai/stt-2.6b-en": ModelFacts(
        languages=("en",), delay_steps=32, silence_prefix_s=1.0
    ),
}


@frozen(kw_only=True)
class LocalSettings:
    """One model as loaded; equal settings share it.

    Raises:
        ConfigError: If a setting is wrong.
    """

    hf_repo: str | None
    """Repository on the hub; None where `directory` is given."""
    directory: Path | None
    """Folder with `config.json` and the files it names."""
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    dtype: str
    """Type of the language model's numbers; `auto` is `bfloat16`."""
    slots: int
    """Speakers at a time; the whole batch is computed in every step."""
    temperature: float
    """0 takes the most probable token."""
    facts: ModelFacts = field(eq=False)
    """As far as known before loading."""

    def __attrs_post_init__(self) -> None:
        if not DEVICE.fullmatch(self.device):
            raise ConfigError(f"device {self.device!r}: auto, cpu, cuda or cuda:N")
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype {self.dtype!r}: one of {', '.join(DTYPES)}")
        slots = self.slots
        if isinstance(slots, bool) or not isinstance(slots, int):
            raise ConfigError(f"slots {slots!r}: a whole number")
        if not 1 <= slots <= MOST_SLOTS:
            raise ConfigError(f"slots {slots}: 1 to {MOST_SLOTS}")
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 2):
            raise ConfigError(f"temperature {self.temperature}: 0 to 2")

    @classmethod
    def checked(
        cls,
        *,
        hf_repo: str | None,
        directory: str | Path | None,
        languages: str | tuple[str, ...] | None,
        device: str,
        dtype: str,
        slots: int,
        temperature: float,
    ) -> LocalSettings:
        """Complete and check the settings a person gave.

        Raises:
            ConfigError: If one is wrong or the folder holds no such model.
        """
        if hf_repo is not None and directory is not None:
            raise ConfigError("give either hf_repo or directory")
        if directory is not None:
            directory = Path(directory).expanduser().absolute()
            facts = facts_of_config(read_config(directory))
        else:
            hf_repo = hf_repo or next(iter(PUBLISHED))
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", hf_repo):
                raise ConfigError(f"hf_repo {hf_repo!r}: owner/name")
            facts = PUBLISHED.get(hf_repo, ModelFacts())
        if languages is not None:
            facts = _with_languages(facts, languages)
        return cls(
            hf_repo=hf_repo,
            directory=directory,
            device=device,
            dtype=dtype,
            slots=slots,
            temperature=temperature,
            facts=facts,
        )


def read_config(directory: Path) -> Mapping[str, object]:
    """Read `config.json` of a model folder.

    Raises:
        ConfigError: If it is missing, malformed or of no speech-to-text model.
    """
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"no model in {str(directory)!r}: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{str(path)!r} is no JSON: {exc}") from exc
    # A speech-to-text model generates no audio: no depth transformer.
    if not isinstance(config, dict) or config.get("dep_q") != 0:
        raise ConfigError(f"{str(path)!r} is not of a speech-to-text model")
    return config


def facts_of_config(config: Mapping[str, object]) -> ModelFacts:
    """What `config.json` says about the model; defaults where it does not."""
    stt = config.get("stt_config")
    stt = stt if isinstance(stt, Mapping) else {}
    delay_s = _number(stt.get("audio_delay_seconds"), 0.5)
    steps = DELAY_STEPS.get(delay_s, round(delay_s / FRAME_S))
    heads = config.get("extra_heads_num_heads")
    # As the published ones are called: tokenizer_en_fr_audio_8000.model.
    name = TOKENIZER.match(str(config.get("tokenizer_name", "")))
    languages = tuple(name[1].rstrip("_").split("_")) if name else ()
    return ModelFacts(
        languages=languages,
        delay_steps=steps,
        silence_prefix_s=_number(stt.get("audio_silence_prefix_seconds"), 0.0),
        # Other numbers of heads have horizons nobody has told.
        horizons_s=HORIZONS_S if heads == len(HORIZONS_S) else (),
    )


def _number(value: object, default: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value <= 60:
            return float(value)
    return default


def _with_languages(facts: ModelFacts, languages: str | tuple[str, ...]) -> ModelFacts:
    if isinstance(languages, str):
        languages = tuple(part.strip() for part in languages.split(","))
    if not languages or not all(LANGUAGE.fullmatch(code) for code in languages):
        raise ConfigError(f"languages {languages!r}: two-letter codes such as en,fr")
    return attrs.evolve(facts, languages=tuple(languages))
