# SPDX-License-Identifier: MIT
"""The model itself: Mimi and the language model of the package `moshi`, batched.

Imported only in the engine's thread; needs torch and moshi.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from moshi.models import LMGen, loaders
from moshi.utils.compile import no_compile

from ...core import FRAME_SAMPLES
from ...errors import ConfigError
from ._settings import LocalSettings, ModelFacts, facts_of_config, read_config
from ._slot import Mask, StepOutput

__all__ = ["MoshiRecogniser", "load"]

WARM_UP_STEPS = 3
"""The first steps allocate, and on a GPU record graphs."""


class MoshiRecogniser:
    """Fulfils `Recogniser` with a Mimi codec and a delayed-streams language model.

    Args:
        mimi: The codec, `moshi.models.MimiModel`.
        lm: The language model, `moshi.models.LMModel`, without depth transformer.
        tokenizer: `sentencepiece.SentencePieceProcessor`.
        facts: What the model can do.
        slots: Places in the batch.
        temperature: 0 takes the most probable token.

    Source:
        moshi 0.2.13: `streaming_forever`, `set_exec_mask` and `reset_streaming` of
        `modules/streaming.py`; `LMGen.step` sees initial tokens instead of the first
        codes of a stream, so these are fed twice, as in `run_inference.py`.
    """

    def __init__(
        self,
        *,
        mimi: Any,
        lm: Any,
        tokenizer: Any,
        facts: ModelFacts,
        slots: int,
        temperature: float,
    ) -> None:
        self.facts = facts
        self._tokenizer = tokenizer
        self._mimi = mimi
        self._device = lm.device
        self._generator = LMGen(
            lm,
            use_sampling=temperature > 0,
            temp_text=temperature,
            condition_tensors={},
            # Places begin and pause at different times.
            support_out_of_sync=True,
        )
        self._fresh = np.ones(slots, dtype=np.bool_)
        with _running(self._device):
            self._mimi.streaming_forever(slots)
            self._generator.streaming_forever(slots)
        everyone = np.ones(slots, dtype=np.bool_)
        silence = np.zeros((slots, FRAME_SAMPLES), dtype=np.float32)
        for _ in range(WARM_UP_STEPS):
            self.step(silence, everyone)
        self.reset(everyone)

    def reset(self, slots: Mask) -> None:
        """Begin anew in these places."""
        mask = self._tensor(slots)
        with _running(self._device):
            self._mimi.reset_streaming(mask)
            self._generator.reset_streaming(mask)
        self._fresh |= slots

    def step(self, audio: npt.NDArray[np.float32], active: Mask) -> StepOutput:
        """Hear one frame in the active places; the others stay as they are."""
        first = self._fresh & active
        with _running(self._device):
            pcm = torch.from_numpy(audio).to(self._device)[:, None]
            mask = self._tensor(active)
            self._mimi.set_exec_mask(mask)
            codes = self._mimi.encode(pcm)
            if first.any():
                self._generator.set_exec_mask(self._tensor(first))
                self._generator.step(codes)
            self._generator.set_exec_mask(mask)
            tokens, heads = self._generator.step_with_extra_heads(codes)
            # Shapes: tokens (slots, 1, 1), each head (slots, 1, classes); class 0
            # is "no word begins within the horizon".
            chances = [head[:, 0, 0].float().cpu().numpy() for head in heads]
            text = tokens[:, 0, 0].cpu().numpy()
        self._fresh &= ~active
        wanted = chances[: len(self.facts.horizons_s)]
        pauses = np.zeros((len(active), len(wanted)), dtype=np.float32)
        for column, chance in enumerate(wanted):
            pauses[:, column] = chance
        return StepOutput(tokens=text, pauses=pauses)

    def decode(self, pieces: tuple[int, ...]) -> str:
        """Put the tokens of one word together."""
        return str(self._tokenizer.decode(list(pieces)))

    def _tensor(self, mask: Mask) -> Any:
        return torch.from_numpy(mask.copy()).to(self._device)


@contextmanager
def _running(device: Any) -> Iterator[None]:
    """How everything of the model runs."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        # It takes minutes, wants a C++ compiler and has little to gain here.
        stack.enter_context(no_compile())
        if device.type == "cuda":
            # Each thread has a current device of its own, and graphs need it.
            stack.enter_context(torch.cuda.device(device))
        yield


def load(settings: LocalSettings) -> MoshiRecogniser:
    """Load the model of the settings, from the folder or the hub.

    Raises:
        ConfigError: If the device is missing or the files are not of such a model.
    """
    device = _device(settings.device)
    info = _checkpoint(settings)
    config = info.raw_config or {}
    if config.get("dep_q") != 0:
        raise ConfigError(f"{settings.hf_repo!r} is not a speech-to-text model")
    lm = info.get_moshi(device=device, dtype=_dtype(settings.dtype))
    return MoshiRecogniser(
        mimi=info.get_mimi(device=device),
        lm=lm,
        tokenizer=info.get_text_tokenizer(),
        facts=facts_of_config(config),
        slots=settings.slots,
        temperature=settings.temperature,
    )


def _checkpoint(settings: LocalSettings) -> Any:
    if settings.directory is None:
        return loaders.CheckpointInfo.from_hf_repo(settings.hf_repo)
    folder = settings.directory
    config = read_config(folder)
    codec = config.get("mimi_config_name")
    return loaders.CheckpointInfo.from_hf_repo(
        # Never asked for anything: all its files are named here.
        "local/folder",
        config_path=folder / "config.json",
        moshi_weights=_file(folder, config.get("moshi_name"), loaders.MOSHI_NAME),
        mimi_weights=_file(folder, config.get("mimi_name"), loaders.MIMI_NAME),
        tokenizer=_file(
            folder, config.get("tokenizer_name"), loaders.TEXT_TOKENIZER_NAME
        ),
        mimi_config_path=None if codec is None else _file(folder, codec, ""),
    )


def _file(folder: Path, name: object, default: str) -> Path:
    path = folder / str(name or default)
    if not path.is_file():
        raise ConfigError(f"the model folder {str(folder)!r} has no {path.name!r}")
    return path


def _device(name: str) -> str:
    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name.startswith("cuda"):
        _, _, number = name.partition(":")
        if not available or int(number or 0) >= torch.cuda.device_count():
            raise ConfigError(f"torch finds no device {name!r}")
    return name


def _dtype(name: str) -> Any:
    return torch.bfloat16 if name == "auto" else getattr(torch, name)
