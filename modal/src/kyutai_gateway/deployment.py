# SPDX-License-Identifier: MIT
"""What can be chosen when deploying on Modal. Knows nothing of its SDK.

`modal/app.py` hands these values to the SDK. It is imported when deploying and again
in every container; both must get the same values, so `Deployment.environment` is
baked into the image.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Literal

from attrs import Attribute, field, fields, frozen

from . import pins
from ._variables import PREFIX as GATEWAY_PREFIX
from ._variables import SettingsError
from .config import from_environment
from .moshi_config import LM_NAME, MIMI_NAME, SHAPES
from .pins import GPUS, REPOSITORIES, REVISIONS, Gpu
from .settings import GatewaySettings

__all__ = ["PREFIX", "Deployment", "DeploymentError", "check_workspace"]

PREFIX = "KYUTAI_MODAL_"
"""Every variable of a deployment begins with it."""


class DeploymentError(ValueError):
    """It cannot be deployed like this; says which variable is wrong, and why."""


_SYNONYMS = {"A10G": "A10", "A100": "A100-40GB"}
_PROBES = 4
"""Room in a container for requests that are no streams."""
_REGIONS = ("us-east", "us-west", "eu-west", "ap-south")


def _whole(low: int, high: int, default: int) -> int:
    def check(_: object, attribute: Attribute[int], value: int) -> None:
        if not low <= value <= high:
            raise DeploymentError(
                f"{PREFIX}{attribute.name.upper()} is {value}: "
                f"a whole number from {low} to {high}"
            )

    number: int = field(default=default, validator=check)
    return number


@frozen(kw_only=True)
class Deployment:
    """Everything that can be chosen when deploying.

    Raises:
        DeploymentError: If a value is not allowed.
    """

    gpu: Gpu = GPUS["L4"]
    """`KYUTAI_MODAL_GPU`."""
    slots: int = _whole(0, 1024, 0)
    """Streams per container; 0 for what the GPU carries."""
    max_containers: int = _whole(1, 100, 2)
    """The bound on what can be spent: so many GPUs at a time and no more."""
    min_containers: int = _whole(0, 100, 0)
    """Kept running around the clock."""
    scaledown_s: int = _whole(2, 1200, 120)
    """Time that an unused container waits for the next stream."""
    timeout_s: int = _whole(300, 86_400, 14_400)
    """Longest stream that Modal allows; the gateway rotates streams before."""
    startup_s: int = _whole(60, 3600, 600)
    """Longest start of a container."""
    routing_region: str = ""
    """Where Modal takes the audio in; its default is `us-east`. Cannot be changed on
    an app that is deployed."""
    compute_region: str = ""
    """Where the GPU is, with commas between; anywhere if empty. Costs extra."""
    model: str = "stt-1b-en_fr"
    """One of `REPOSITORIES`."""
    revision: str = ""
    """Commit of its weights; empty for the one in `REVISIONS`."""
    image: str = ""
    """Ready image with moshi-server in it, instead of building one."""
    flavour: Literal["function", "server", "both"] = "function"
    """Which of Modal's two primitives serves; only `function` has the known URL."""
    gateway: Mapping[str, str] = field(factory=dict)
    """Settings of the gateway that were given, by variable."""

    def __attrs_post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise DeploymentError("\n".join(problems))

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Deployment:
        """Read the variables of a deployment, and those of the gateway with it.

        Args:
            environ: Environment variables; empty ones count as not set.

        Raises:
            DeploymentError: If anything is wrong.
        """
        given = {
            name.removeprefix(PREFIX).lower(): raw.strip()
            for name, raw in environ.items()
            if name.startswith(PREFIX) and raw.strip()
        }
        gateway = {
            name: value
            for name, value in environ.items()
            if name.startswith(GATEWAY_PREFIX) and value.strip()
        }
        values = dict(_parsed(given))
        deployment = cls(**values, gateway=gateway)  # type: ignore[arg-type]  # parsed by the kind of each field
        deployment.settings()
        return deployment

    @property
    def streams(self) -> int:
        """Streams per container."""
        return self.slots or self.gpu.slots

    @property
    def max_inputs(self) -> int:
        """Connections that Modal gives to a container: its streams and some probes."""
        return self.streams + _PROBES

    @property
    def target_inputs(self) -> int:
        """From so many on Modal starts the next container."""
        return max(1, math.floor(self.streams * 0.75))

    @property
    def regions(self) -> list[str]:
        """`compute_region` as a list."""
        return [one.strip() for one in self.compute_region.split(",") if one.strip()]

    @property
    def weights(self) -> str:
        """Folder of the weights in a container."""
        return f"{pins.WEIGHTS_DIR}/{self.model}/{self._revision}"

    @property
    def download_command(self) -> str:
        """Fills the volume with exactly the three files, at the pinned commit."""
        names = (LM_NAME, MIMI_NAME, SHAPES[self.model].tokenizer_name)
        command = ["hf", "download", REPOSITORIES[self.model], *names]
        command += ["--revision", self._revision, "--local-dir", self.weights]
        return shlex.join(command)

    def environment(self) -> dict[str, str]:
        """Return the variables of a container."""
        ours = {
            "gpu": self.gpu.name,
            "slots": str(self.streams),
            "max_containers": str(self.max_containers),
            "min_containers": str(self.min_containers),
            "scaledown_s": str(self.scaledown_s),
            "timeout_s": str(self.timeout_s),
            "startup_s": str(self.startup_s),
            "routing_region": self.routing_region,
            "compute_region": self.compute_region,
            "model": self.model,
            "revision": self._revision,
            "image": self.image,
            "flavour": self.flavour,
        }
        named = {PREFIX + name.upper(): value for name, value in ours.items()}
        # Compiled kernels: each container would compile them anew.
        named["CUDA_CACHE_PATH"] = pins.CACHE_DIR
        return named | dict(self.gateway) | self._fixed()

    def settings(self) -> GatewaySettings:
        """Return the settings that the gateway will have.

        Raises:
            DeploymentError: If one is wrong, or belongs to the deployment.
        """
        fixed = self._fixed()
        for name, value in self.gateway.items():
            if fixed.get(name, value) != value:
                raise DeploymentError(
                    f"{name} is set by the deployment (to {fixed[name]!r}): "
                    f"use the variables that begin with {PREFIX}"
                )
        try:
            return from_environment(self.environment())
        except SettingsError as exc:
            raise DeploymentError(str(exc)) from exc

    @property
    def _revision(self) -> str:
        return self.revision or REVISIONS[self.model]

    def _fixed(self) -> dict[str, str]:
        fixed = {
            # Modal's proxy has checked the keys before a request gets here.
            "auth": "none",
            "host": "0.0.0.0",
            "port": str(pins.PORT),
            "moshi_server": pins.MOSHI_SERVER,
            "weights_dir": self.weights,
            "model": self.model,
            "slots": str(self.streams),
            "device": "cuda",
            # Before Modal cuts the stream without a word.
            "max_stream_s": str(self.timeout_s - 60),
            "start_timeout_s": str(max(30, self.startup_s - 60)),
        }
        return {GATEWAY_PREFIX + name.upper(): value for name, value in fixed.items()}

    def _problems(self) -> Iterator[str]:
        if self.min_containers > self.max_containers:
            yield (
                f"{PREFIX}MIN_CONTAINERS is {self.min_containers}: more than "
                f"{PREFIX}MAX_CONTAINERS, which is {self.max_containers}"
            )
        if self.routing_region and self.routing_region not in _REGIONS:
            yield (
                f"{PREFIX}ROUTING_REGION is {self.routing_region!r}: "
                f"one of {', '.join(_REGIONS)}"
            )
        if self.model not in REPOSITORIES:
            yield f"{PREFIX}MODEL is {self.model!r}: one of {', '.join(REPOSITORIES)}"
        elif not self.revision and self.model not in REVISIONS:
            yield (
                f"{PREFIX}REVISION is not set: no commit of "
                f"{REPOSITORIES[self.model]} is known here"
            )
        if self.revision and not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            yield (
                f"{PREFIX}REVISION is {self.revision!r}: a commit of 40 digits, "
                "because a branch may change"
            )
        if self.flavour not in ("function", "server", "both"):
            yield f"{PREFIX}FLAVOUR is {self.flavour!r}: function, server or both"
        if self.max_inputs > 1000:
            yield f"{PREFIX}SLOTS is {self.slots}: Modal allows 1000 connections"


def _parsed(given: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    known = {one.name: type(one.default) for one in fields(Deployment)}
    del known["gateway"]
    for name, raw in given.items():
        if name not in known:
            raise DeploymentError(
                f"{PREFIX}{name.upper()} is no variable of a deployment: known are "
                + ", ".join(PREFIX + one.upper() for one in known)
            )
        if name == "gpu":
            yield name, _gpu(raw)
        elif known[name] is int:
            if not raw.isascii() or not raw.isdigit():
                raise DeploymentError(
                    f"{PREFIX}{name.upper()} is {raw!r}: a whole number"
                )
            yield name, int(raw)
        else:
            yield name, raw


def _gpu(raw: str) -> Gpu:
    name = raw.upper()
    name = _SYNONYMS.get(name, name)
    if name == "T4":
        raise DeploymentError(f"{PREFIX}GPU is T4: it has no bf16, which the model is")
    if name not in GPUS:
        raise DeploymentError(f"{PREFIX}GPU is {raw!r}: one of {', '.join(GPUS)}")
    return GPUS[name]


def check_workspace(environ: Mapping[str, str]) -> None:
    """Refuse a workspace whose name is too long for the known URL.

    Only where `MODAL_WORKSPACE` tells its name; the ExApp reads the same variable.

    Raises:
        DeploymentError: If Modal would shorten the address.
    """
    # Loads the websocket client, which deploying does not need.
    from kyutai_stream import ConfigError
    from kyutai_stream.backends.modal import workspace_url

    workspace = environ.get("MODAL_WORKSPACE", "").strip()
    environment = environ.get("MODAL_ENVIRONMENT", "").strip()
    if not workspace:
        return
    try:
        workspace_url(workspace, None if environment == "main" else environment or None)
    except ConfigError as exc:
        raise DeploymentError(
            f"MODAL_WORKSPACE: {exc}. Without the variable it can be deployed all the "
            "same; give clients the address that is printed then (LT_STT_URL)"
        ) from exc
