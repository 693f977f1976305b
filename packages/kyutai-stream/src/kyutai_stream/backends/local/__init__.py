# SPDX-License-Identifier: MIT
"""`local`: the Kyutai models in this process, with PyTorch; no server.

For a machine with a GPU of its own, for development and for tests. On a CPU the
real models are several times too slow for live speech; see "Run the model in
process" in the documentation.

The model is loaded once and shared by all sessions of the process: speakers are
places in its batch. It runs in a thread of its own, `_engine` says why.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from ...backend import Capabilities, Connection, ConnectRequest, Ready
from ...errors import (
    BackendUnavailable,
    ConfigError,
    ConnectFailed,
    KyutaiStreamError,
)
from ._connection import LocalConnection
from ._engine import Engine
from ._settings import LocalSettings, ModelFacts
from ._slot import Recogniser, StepOutput

__all__ = ["LocalBackend", "LocalSettings", "ModelFacts", "Recogniser", "StepOutput"]

NEEDS = (
    "the local backend needs torch and moshi: pip install 'kyutai-stream[local]'"
    " and then pip install --no-deps moshi==0.2.13"
)

Load = Callable[[LocalSettings], Recogniser]

_engines: dict[LocalSettings, Engine] = {}
_engines_lock = threading.Lock()


class LocalBackend:
    """Kyutai speech-to-text in this process.

    Args:
        hf_repo: Repository on the Hugging Face hub, `kyutai/stt-1b-en_fr` (English
            and French) or `kyutai/stt-2.6b-en`; downloaded at the first use.
        directory: Folder with the files of such a repository, instead.
        languages: What it understands, `("en", "fr")` or `"en,fr"`, where that
            cannot be known from the repository or `config.json`.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        dtype: `bfloat16`, `float16` (for GPUs without the former), `float32`, or
            `auto`, which is `bfloat16`.
        slots: Speakers at a time. The whole batch is computed in every step: more
            places need more memory and, on a CPU, more time.
        temperature: 0 takes the most probable token. Kyutai's unmute uses 0.25,
            which is said to stall less.
        ready_timeout_s: Time to load the model, or to get a turn once it is loaded.
        load: Builds the model instead of the files above, for checkpoints with a
            layout of their own and for tests. Not shared with other backends.

    Raises:
        BackendUnavailable: If torch or moshi is not installed.
        ConfigError: If a setting is wrong.
    """

    name = "local"
    description = "Kyutai models in this process with PyTorch; wants a GPU"

    def __init__(
        self,
        *,
        hf_repo: str | None = None,
        directory: str | Path | None = None,
        languages: str | tuple[str, ...] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        slots: int = 4,
        temperature: float = 0.0,
        ready_timeout_s: float = 600.0,
        load: Load | None = None,
    ) -> None:
        if not ready_timeout_s > 0:
            raise ConfigError("ready_timeout_s is seconds, more than 0")
        if load is None:
            _check_installed()
        self._ready_timeout_s = ready_timeout_s
        self._settings = LocalSettings.checked(
            hf_repo=hf_repo,
            directory=directory,
            languages=languages,
            device=device,
            dtype=dtype,
            slots=slots,
            temperature=temperature,
        )
        self._engine = _engine(self._settings, load)
        self.capabilities = self._capabilities(self._settings.facts)

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        """Take a place in the batch; the first one waits for the model to load.

        Loading cannot be interrupted: if this is cancelled, it goes on in its
        thread and the model is there for the next one.

        Raises:
            ConfigError: If the model does not speak the language or its files are
                not those of such a model.
            CapacityError: If all places are taken.
            ConnectFailed: If the model could not be loaded, or not in time.
            BackendUnavailable: If something it needs is not installed.
        """
        spoken = self.capabilities.languages
        if request.language is not None and spoken and request.language not in spoken:
            raise ConfigError(
                f"the local model does not speak {request.language!r},"
                f" only {', '.join(spoken)}"
            )
        connection = LocalConnection(self._engine, self._welcome)
        try:
            with anyio.move_on_after(self._ready_timeout_s) as scope:
                await connection.prepare()
            if scope.cancelled_caught:
                raise ConnectFailed(
                    f"the local model was not ready in {self._ready_timeout_s:g} s"
                )
            yield connection
        finally:
            await connection.close()

    async def load(self) -> None:
        """Load the model now, before anybody speaks.

        `import torch` alone holds up the event loop for a moment (0.3 s measured);
        better at the start of a program than in a call. Raises what `connect` does.
        """
        async with self.connect(ConnectRequest()):
            pass

    def _welcome(self, model: Recogniser) -> Ready:
        return Ready(capabilities=self._capabilities(model.facts))

    def _capabilities(self, facts: ModelFacts) -> Capabilities:
        return Capabilities(
            languages=self._settings.facts.languages or facts.languages,
            pause_horizons_s=facts.horizons_s,
            acks=True,
            resettable=True,
            nominal_delay_s=facts.delay_s,
            silence_prefix_s=facts.silence_prefix_s,
            max_sessions=self._settings.slots,
            punctuation=True,
        )


def _check_installed() -> None:
    if any(importlib.util.find_spec(name) is None for name in ("torch", "moshi")):
        raise BackendUnavailable(NEEDS)


def _engine(settings: LocalSettings, load: Load | None) -> Engine:
    if load is not None:
        return Engine(lambda: load(settings), settings.slots)
    with _engines_lock:
        if settings not in _engines:
            _engines[settings] = Engine(lambda: _load(settings), settings.slots)
        return _engines[settings]


def _load(settings: LocalSettings) -> Recogniser:
    """Import and load, in the engine's thread; errors become ours."""
    try:
        from . import _torch
    except ImportError as exc:
        raise BackendUnavailable(f"{NEEDS} ({exc})") from exc
    try:
        return _torch.load(settings)
    except KyutaiStreamError:
        raise
    except Exception as exc:
        # Hub, files, memory, driver: much can go wrong in foreign code.
        raise ConnectFailed(
            f"the local model could not be loaded: {type(exc).__name__}: {exc}"
        ) from exc
