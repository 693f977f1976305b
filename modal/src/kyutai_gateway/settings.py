# SPDX-License-Identifier: MIT
"""The settings of the gateway: one frozen, checked value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from . import _variables as v
from ._variables import SettingsError, setting, variable

__all__ = ["GatewaySettings"]

_LISTEN = "Listening and credentials"
_STREAMS = "Streams"
_SERVER = "The moshi-server of its own"
_MODEL = "Model and weights"
_ATTACH = "A moshi-server that somebody else runs"
_HEALTH = "Health and restarts"


@frozen(kw_only=True)
class GatewaySettings:
    """Everything the gateway can be told; secrets stay out of `repr`.

    Raises:
        SettingsError: If a value is not allowed, or one that is needed is missing.
    """

    host: str = setting("127.0.0.1", v.host(), "Address to listen on.", group=_LISTEN)
    port: int = setting(
        8000,
        v.whole(0, 65535),
        "Port to listen on; 0 takes a free one.",
        group=_LISTEN,
    )
    auth: Literal["pair", "bearer", "none"] = setting(
        "pair",
        v.choice("pair", "bearer", "none"),
        "What clients must show: `pair` the headers `Modal-Key` and `Modal-Secret`,"
        " `bearer` the header `Authorization: Bearer …`, `none` nothing (only behind"
        " a proxy that checks, such as Modal's).",
        group=_LISTEN,
    )
    key: str = setting(
        "", v.text("one line of text"), "For `pair`.", group=_LISTEN, secret=True
    )
    secret: str = setting(
        "", v.text("one line of text"), "For `pair`.", group=_LISTEN, secret=True
    )
    bearer: str = setting(
        "", v.text("one line of text"), "For `bearer`.", group=_LISTEN, secret=True
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info",
        v.choice("debug", "info", "warning", "error"),
        "Least severe level that is logged; no level logs what is said.",
        group=_LISTEN,
    )
    max_stream_s: float = setting(
        math.inf,
        v.seconds(0.1, 604_800, off=True),
        "Age at which a stream is asked to reconnect; below the time limit of the"
        " platform, where it has one.",
        group=_STREAMS,
    )
    idle_timeout_s: float = setting(
        60.0,
        v.seconds(0.1, 86_400, off=True),
        "A stream without any message from its client for so long is ended.",
        group=_STREAMS,
    )
    quiet_timeout_s: float = setting(
        1800.0,
        v.seconds(0.1, 86_400, off=True),
        "A stream without a word for so long is ended, so that a forgotten one does"
        " not keep a GPU running.",
        group=_STREAMS,
    )
    drain_s: float = setting(
        25.0,
        v.seconds(0, 86_400),
        "Time that streams have to move away after SIGTERM; below the platform's own"
        " grace period.",
        group=_STREAMS,
    )
    moshi_server: Path | None = setting(
        None,
        v.local_path("file"),
        "The program `moshi-server` (Rust). Not the script of the same name that the"
        " Python package `moshi` installs.",
        group=_SERVER,
    )
    device: Literal["cuda", "cpu"] = setting(
        "cuda",
        v.choice("cuda", "cpu"),
        "Where the model runs; `cpu` is for trying out, about 3 times slower than"
        " real time on 2 cores.",
        group=_SERVER,
    )
    slots: int = setting(
        24,
        v.whole(1, 1024),
        "Streams at a time (`batch_size`), or what the attached server has. All of"
        " them are computed at every step, used or not.",
        group=_SERVER,
    )
    child_port: int = setting(
        0,
        v.whole(0, 65535),
        "Port of moshi-server on 127.0.0.1; 0 takes a free one at every start.",
        group=_SERVER,
    )
    library_path: tuple[Path, ...] = setting(
        (),
        v.folder_list(),
        "Put before moshi-server's LD_LIBRARY_PATH, where the system does not find"
        " the libpython that it was built with.",
        group=_SERVER,
    )
    model: Literal["stt-1b-en_fr", "stt-2.6b-en"] = setting(
        "stt-1b-en_fr",
        v.choice("stt-1b-en_fr", "stt-2.6b-en"),
        "Kyutai's model: English and French, 0.5 s behind, or English only, 2.5 s"
        " behind.",
        group=_MODEL,
    )
    weights_dir: Path | None = setting(
        None,
        v.local_path("folder"),
        "Folder with the model's three files under their published names.",
        group=_MODEL,
    )
    lm_file: Path | None = setting(
        None,
        v.local_path("file"),
        "Language model, where it is not in the folder.",
        group=_MODEL,
    )
    mimi_file: Path | None = setting(
        None,
        v.local_path("file"),
        "Audio tokenizer, where it is not in the folder.",
        group=_MODEL,
    )
    tokenizer_file: Path | None = setting(
        None,
        v.local_path("file"),
        "Text tokenizer, where it is not in the folder.",
        group=_MODEL,
    )
    temperature: float = setting(
        0.0,
        v.number(0, 2),
        "Of the sampling; 0.25 is said to help against long stalls.",
        group=_MODEL,
    )
    codebooks: int = setting(
        32,
        v.whole(1, 32),
        "Audio codebooks that the model hears; fewer are faster and less accurate.",
        group=_MODEL,
    )
    dtype: Literal["auto", "bf16", "f16", "f32"] = setting(
        "auto",
        v.choice("auto", "bf16", "f16", "f32"),
        "Number format of the weights; `auto` is bf16 on CUDA and f32 on the CPU.",
        group=_MODEL,
    )
    attach_url: str = setting(
        "",
        v.websocket_url(),
        "Use this moshi-server and start none.",
        group=_ATTACH,
    )
    attach_api_key: str = setting(
        "public_token",
        v.text("one line of text"),
        "One of its `authorized_ids`.",
        group=_ATTACH,
        secret=True,
    )
    start_timeout_s: float = setting(
        300.0,
        v.seconds(1, 3600),
        "Time for moshi-server to load its weights and answer.",
        group=_HEALTH,
    )
    warm_up_timeout_s: float = setting(
        120.0,
        v.seconds(1, 3600),
        "Part of it that may go by between the open port and the first answer.",
        group=_HEALTH,
    )
    ready_timeout_s: float = setting(
        5.0,
        v.seconds(0.1, 120),
        "Time for a running moshi-server to answer a new stream, and for the first"
        " step on it.",
        group=_HEALTH,
    )
    probe_interval_s: float = setting(
        30.0,
        v.seconds(0.1, 3600),
        "Between two checks of an idle moshi-server.",
        group=_HEALTH,
    )
    terminate_s: float = setting(
        5.0,
        v.seconds(0, 60),
        "Between SIGTERM and SIGKILL when moshi-server is ended.",
        group=_HEALTH,
    )
    max_restarts: int = setting(
        3,
        v.whole(0, 100),
        "Restarts within the window below; one more is needed, and the gateway ends"
        " with an error so that the platform replaces it.",
        group=_HEALTH,
    )
    restart_window_s: float = setting(
        600.0, v.seconds(1, 86_400), "See above.", group=_HEALTH
    )
    restart_backoff_s: float = setting(
        1.0,
        v.seconds(0, 60),
        "Pause before the first restart in the window; doubles with each, up to 30 s.",
        group=_HEALTH,
    )
    child_environment: Mapping[str, str] = field(factory=dict, repr=False)
    """Environment of moshi-server; not a variable of its own."""

    def __attrs_post_init__(self) -> None:
        problems = list(self._missing())
        if problems:
            raise SettingsError("\n".join(problems))

    @property
    def attached(self) -> bool:
        """Whether somebody else runs moshi-server."""
        return bool(self.attach_url)

    def _missing(self) -> Iterator[str]:
        needed = {"pair": ("key", "secret"), "bearer": ("bearer",)}.get(self.auth, ())
        for name in needed:
            if not getattr(self, name):
                yield (
                    f"{variable(name)} is not set: needed because"
                    f" {variable('auth')} is `{self.auth}`"
                )
        if self.attached:
            return
        if self.moshi_server is None:
            yield (
                f"{variable('moshi_server')} is not set: the full path of the program"
                f" moshi-server, unless {variable('attach_url')} names a running one"
            )
        files = (self.lm_file, self.mimi_file, self.tokenizer_file)
        if self.weights_dir is None and None in files:
            yield (f"{variable('weights_dir')} is not set: the folder with the weights")
