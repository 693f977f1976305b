# SPDX-License-Identifier: MIT
"""Kyutai speech-to-text on Modal: `modal deploy modal/app.py` is all.

The only file that imports Modal's SDK; what is deployed is decided in
`kyutai_gateway.deployment` (variables `KYUTAI_MODAL_…`) and what runs in a container
is `kyutai_gateway.hosting`. This module is executed twice: when deploying, and in
every container, where the same variables are part of the image.

No `from __future__ import annotations` here: the SDK looks at the annotations.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import modal

from kyutai_gateway import pins
from kyutai_gateway.deployment import Deployment, DeploymentError, check_workspace

REQUIREMENTS = Path(__file__).parent / "deploy" / "requirements.txt"

try:
    if modal.is_local():
        check_workspace(os.environ)
    chosen = Deployment.read(os.environ)
except DeploymentError as exc:
    # One line instead of a page of traceback.
    sys.exit(f"Not deployed. {exc}")

app = modal.App(pins.APP)
weights = modal.Volume.from_name(pins.WEIGHTS_VOLUME, create_if_missing=True)
kernels = modal.Volume.from_name(pins.CACHE_VOLUME, create_if_missing=True)


def _with_moshi_server() -> modal.Image:
    if chosen.image:
        return modal.Image.from_registry(chosen.image).entrypoint([])
    # No GPU is needed to build: the compute capability is given.
    return (
        modal.Image.from_registry(pins.CUDA_IMAGE, add_python=pins.PYTHON)
        .entrypoint([])
        .apt_install(*pins.SYSTEM_PACKAGES)
        .run_commands(*pins.build_commands(chosen.gpu.compute_cap))
    )


image = (
    _with_moshi_server()
    .uv_pip_install(
        requirements=[str(REQUIREMENTS)],
        extra_options="--require-hashes",
        uv_version=pins.UV,
    )
    .uv_pip_install(pins.HUB_CLIENT, uv_version=pins.UV)
    # Fills the volume before the first container starts, once for each revision.
    .run_commands(chosen.download_command, volumes={pins.WEIGHTS_DIR: weights})
    .env(chosen.environment())
    .add_local_python_source("kyutai_stream", "kyutai_gateway")
)

common: dict[str, Any] = {
    "image": image,
    "gpu": chosen.gpu.name,
    "cpu": 2.0,
    "memory": 8192,
    "volumes": {
        pins.WEIGHTS_DIR: weights.with_mount_options(read_only=True),
        pins.CACHE_DIR: kernels,
    },
    "startup_timeout": chosen.startup_s,
    "min_containers": chosen.min_containers,
    "max_containers": chosen.max_containers,
    "scaledown_window": chosen.scaledown_s,
}

if chosen.flavour in ("function", "both"):

    @app.cls(
        **common,
        timeout=chosen.timeout_s,
        region=chosen.regions or None,
        routing_region=chosen.routing_region or None,
    )
    @modal.concurrent(max_inputs=chosen.max_inputs, target_inputs=chosen.target_inputs)
    class KyutaiSTTRustService:
        """Behind Modal's queue, at the address that clients know.

        Starting, waiting for the model and stopping are the lifespan of the ASGI
        app: Modal sends nobody in before its startup is complete.
        """

        # Without the argument anybody could use the GPU. No label: the address
        # comes from the names.
        @modal.asgi_app(requires_proxy_auth=True)
        def serve(self) -> Any:
            """The gateway."""
            from kyutai_gateway.hosting import end_container, hosted_app

            return hosted_app(give_up=end_container)


if chosen.flavour in ("server", "both"):

    @app.server(
        **common,
        port=pins.PORT,
        routing_region=chosen.routing_region or "us-east",
        compute_region=chosen.regions or None,
        max_concurrency=chosen.max_inputs,
        target_concurrency=chosen.target_inputs,
        exit_grace_period=3600,
    )
    class KyutaiSTTRustServer:
        """Modal's proxy goes straight to the gateway's port; that opens when ready.

        Proxy authentication is on by default here (`unauthenticated=False`).
        """

        @modal.enter()
        def start(self) -> None:
            """Start the gateway as a process of its own."""
            from kyutai_gateway.hosting import GatewayProcess

            self.gateway = GatewayProcess()

        @modal.exit()
        def stop(self) -> None:
            """Let the streams move away."""
            self.gateway.stop()


@app.function(image=image, volumes={pins.WEIGHTS_DIR: weights}, timeout=3600)
def download() -> None:
    """Fill the volume again: `modal run modal/app.py::download`."""
    subprocess.run(shlex.split(chosen.download_command), check=True)
    weights.commit()
