# SPDX-License-Identifier: MIT
"""What a deployment is made of: names, kinds of GPU, and the versions of all parts.

The one place for them: `modal/app.py` takes them from here, the container files in
`modal/deploy` repeat them and a test compares.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from attrs import frozen

__all__ = [
    "APP",
    "CACHE_DIR",
    "CACHE_VOLUME",
    "CUDA_IMAGE",
    "FUNCTION_CLASS",
    "GPUS",
    "HUB_CLIENT",
    "METHOD",
    "MOSHI_SERVER",
    "MOSHI_SERVER_VERSION",
    "PORT",
    "PYTHON",
    "REPOSITORIES",
    "REVISIONS",
    "RUST",
    "SERVER_CLASS",
    "SYSTEM_PACKAGES",
    "UV",
    "WEIGHTS_DIR",
    "WEIGHTS_VOLUME",
    "Gpu",
    "build_commands",
    "web_label",
]

APP = "kyutai-stt-rust"
FUNCTION_CLASS = "KyutaiSTTRustService"
METHOD = "serve"
SERVER_CLASS = "KyutaiSTTRustServer"
WEIGHTS_VOLUME = "kyutai-stt-weights"
CACHE_VOLUME = "kyutai-stt-cuda-cache"
WEIGHTS_DIR = "/weights"
CACHE_DIR = "/cuda-cache"
PORT = 8000
"""Of the gateway, where Modal's proxy goes straight to a port."""

MOSHI_SERVER = "/usr/local/bin/moshi-server"
MOSHI_SERVER_VERSION = "0.6.4"
CUDA_IMAGE = "nvidia/cuda:12.8.1-devel-ubuntu24.04"
"""CUDA 12: the server's crates know no 13. Its compiler is needed for the build."""
PYTHON = "3.12"
"""Ubuntu's own, which moshi-server links (its pyo3 knows none above 3.13), and the
version that runs the gateway."""
RUST = "1.95.0"
UV = "0.13.9"
HUB_CLIENT = "huggingface_hub==2.4.0"
SYSTEM_PACKAGES = (
    "ca-certificates",
    "cmake",
    "g++",
    "git",
    "libopus-dev",
    "libssl-dev",
    "make",
    "pkg-config",
    "python3-dev",
    "rustup",
)

REPOSITORIES = {
    "stt-1b-en_fr": "kyutai/stt-1b-en_fr-candle",
    "stt-2.6b-en": "kyutai/stt-2.6b-en-candle",
}
"""Weights for the Rust server. Those without `-candle` lack the pause heads."""

REVISIONS = {"stt-1b-en_fr": "095e38f6242006a93c2541149b181988397f5c7c"}
"""Commits in these repositories; where none is known one has to be given."""


@frozen(kw_only=True)
class Gpu:
    """A kind of GPU."""

    name: str
    """As Modal calls it."""
    compute_cap: int
    """CUDA compute capability that moshi-server is built for."""
    slots: int
    """Streams that it carries in time: published for L40S and H100, else estimated."""


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(name="L4", compute_cap=89, slots=24),
        Gpu(name="A10", compute_cap=86, slots=48),
        Gpu(name="L40S", compute_cap=89, slots=64),
        Gpu(name="A100-40GB", compute_cap=80, slots=96),
        Gpu(name="A100-80GB", compute_cap=80, slots=96),
        Gpu(name="H100", compute_cap=90, slots=128),
    )
}
"""By name. A T4 is missing on purpose: it has no bf16."""


def web_label(*names: str) -> str:
    """Return the label that Modal makes of the names of app, class and method.

    Source:
        modal-serving.md section 2: lower case, all that is no letter and no digit
        becomes a hyphen.
    """
    return re.sub(r"[^a-z0-9]", "-", "-".join(names).lower())


def build_commands(compute_cap: int) -> Sequence[str]:
    """Return the shell commands that build and place moshi-server.

    Args:
        compute_cap: CUDA compute capability; with it the build needs no GPU.
    """
    environment = {
        "CUDA_COMPUTE_CAP": str(compute_cap),
        "PYO3_PYTHON": f"/usr/bin/python{PYTHON}",
        # The bundled sentencepiece forgets an include that newer compilers want.
        "CXXFLAGS": "-include cstdint",
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        "CARGO_TARGET_DIR": "/tmp/moshi-build",
    }
    variables = " ".join(
        f"{name}={shlex.quote(value)}" for name, value in environment.items()
    )
    return (
        f"rustup default {RUST}"
        f" && {variables} cargo install moshi-server@{MOSHI_SERVER_VERSION} --locked"
        " --features cuda --root /usr/local"
        " && rm -rf /tmp/moshi-build ~/.cargo ~/.rustup",
        # A server that does not find its libraries shall not get into an image.
        f"! ldd {MOSHI_SERVER} | grep 'not found' | grep -v libcuda.so",
    )
