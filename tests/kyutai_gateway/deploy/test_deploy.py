"""`modal deploy modal/app.py`, against a control plane that is not Modal's."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

pytest.importorskip("modal")

from modal_proto import api_pb2

from kyutai_gateway import pins
from kyutai_stream.backends.modal import workspace_url

if TYPE_CHECKING:
    from .conftest import Deployed, ModalPlane

    Deploy = Callable[..., Awaitable[Deployed]]

ROOT = Path(__file__).parents[3]
APP = ROOT / "modal" / "app.py"


def require_proxy_auth(plane: ModalPlane) -> None:
    """Nobody gets in without keys, by any flavour."""
    doors = 0
    for request in plane.requests["FunctionCreate"]:
        function = request.function
        for method in function.method_definitions.values():
            doors += 1
            assert method.webhook_config.requires_proxy_auth
        if function.is_server:
            doors += 1
            assert not function.http_config.unauthenticated
        assert not function.webhook_config.type
    assert doors


def label(plane: ModalPlane) -> str:
    """The label that Modal will make of the names that were sent."""
    (created,) = plane.requests["AppCreate"]
    (name,) = (
        method.function_name for method in plane.function.method_definitions.values()
    )
    class_name, method_name = name.split(".")
    return pins.web_label(created.description, class_name, method_name)


async def test_it_deploys_and_asks_nothing_unknown(default: ModalPlane) -> None:
    assert default.unknown == []
    assert "skipped" not in default.output
    # The address is told to whoever deploys.
    told = re.sub(r"\s", "", default.output)
    assert "--kyutai-stt-rust-kyutaisttrustservice-serve.modal.run" in told
    (published,) = default.requests["AppPublish"]
    assert published.app_state == api_pb2.APP_STATE_DEPLOYED
    assert set(published.function_ids) == {"KyutaiSTTRustService.*", "download"}
    assert set(published.class_ids) == {"KyutaiSTTRustService"}


async def test_the_address_is_the_one_that_clients_know(default: ModalPlane) -> None:
    assert f"wss://acme--{label(default)}.modal.run/v1/stream" == workspace_url("acme")
    # The longest name of a workspace that Modal does not shorten.
    assert len(f"{'x' * 19}--{label(default)}") == 63
    (method,) = default.function.method_definitions.values()
    assert method.webhook_config.type == api_pb2.WEBHOOK_TYPE_ASGI_APP
    # A label of its own could be taken over by another app.
    assert method.webhook_config.requested_suffix == ""


async def test_keys_are_required(default: ModalPlane, both: ModalPlane) -> None:
    require_proxy_auth(default)
    require_proxy_auth(both)


@pytest.mark.parametrize(
    ("with_it", "without_it"),
    [
        ("requires_proxy_auth=True", ""),
        ("exit_grace_period=3600,", "exit_grace_period=3600, unauthenticated=True,"),
    ],
)
async def test_a_deployment_open_to_anybody_would_be_noticed(
    plane: ModalPlane,
    deploy: Deploy,
    tmp_path: Path,
    with_it: str,
    without_it: str,
) -> None:
    source = APP.read_text()
    assert source.count(with_it) == 1
    (tmp_path / "deploy").mkdir()
    requirements = APP.parent / "deploy" / "requirements.txt"
    (tmp_path / "deploy" / "requirements.txt").write_text(requirements.read_text())
    changed = tmp_path / "app.py"
    changed.write_text(source.replace(with_it, without_it))
    done = await deploy(changed, KYUTAI_MODAL_FLAVOUR="both")
    assert done.status == 0, done.output
    with pytest.raises(AssertionError):
        require_proxy_auth(plane)


async def test_gpu_limits_and_concurrency(default: ModalPlane) -> None:
    function = default.function
    assert function.resources.gpu_config.gpu_type == "L4"
    assert function.resources.gpu_config.count == 1
    assert function.timeout_secs == 14_400
    assert function.startup_timeout_secs == 600
    assert function.task_idle_timeout_secs == 120
    # Room for probes beside 24 streams; the next container from 18 on.
    assert function.max_concurrent_inputs == 28
    assert function.target_concurrent_inputs == 18
    # Never more than two GPUs unless somebody asks for it, and none at rest.
    assert function.concurrency_limit == 2
    assert function.autoscaler_settings.max_containers == 2
    assert function.autoscaler_settings.min_containers == 0
    assert function.autoscaler_settings.scaledown_window == 120
    assert not function.autoscaler_settings.buffer_containers


async def test_weights_are_mounted_read_only_and_filled_before(
    default: ModalPlane,
) -> None:
    mounts = {mount.mount_path: mount for mount in default.function.volume_mounts}
    assert set(mounts) == {"/weights", "/cuda-cache"}
    assert mounts["/weights"].read_only
    (filling,) = (
        image
        for image in default.images
        if any("hf download" in line for line in image.dockerfile_commands)
    )
    (mount,) = filling.volume_mounts
    assert mount.volume_id == mounts["/weights"].volume_id
    assert mount.mount_path == "/weights" and not mount.read_only
    # The gateway looks where it was put.
    folder = default.image_environment()["KYUTAI_GATEWAY_WEIGHTS_DIR"]
    (line,) = (line for line in filling.dockerfile_commands if "hf download" in line)
    assert line.endswith(f"--local-dir {folder}")
    revision = re.search(r"--revision ([0-9a-f]{40})", line)
    assert revision is not None and revision[1] in folder


async def test_all_parts_of_the_image_are_pinned(default: ModalPlane) -> None:
    commands = default.image_commands()
    text = "\n".join(commands)
    assert f"FROM {pins.CUDA_IMAGE}" in commands
    assert ":latest" not in text
    (build,) = (line for line in commands if "cargo install" in line)
    assert "moshi-server@0.6.4 --locked --features cuda" in build
    assert "CUDA_COMPUTE_CAP=89 " in build
    assert f"rustup default {pins.RUST}" in build
    # Without a GPU while building, which Modal bills.
    assert not any(image.gpu_config.count for image in default.images)
    for line in commands:
        if "pip install" in line:
            assert "--require-hashes" in line or re.search(r"\w==[\d.]+$", line)
    (requirements,) = (
        file.data.decode() for image in default.images for file in image.context_files
    )
    for name in ("anyio", "attrs", "msgpack", "numpy", "uvicorn", "websockets"):
        assert re.search(rf"^{name}==", requirements, re.MULTILINE)


async def test_everything_can_be_chosen(plane: ModalPlane, deploy: Deploy) -> None:
    done = await deploy(
        KYUTAI_MODAL_GPU="a100",
        KYUTAI_MODAL_SLOTS="8",
        KYUTAI_MODAL_MAX_CONTAINERS="5",
        KYUTAI_MODAL_MIN_CONTAINERS="1",
        KYUTAI_MODAL_SCALEDOWN_S="300",
        KYUTAI_MODAL_TIMEOUT_S="86400",
        KYUTAI_MODAL_STARTUP_S="900",
        KYUTAI_MODAL_ROUTING_REGION="eu-west",
        KYUTAI_MODAL_COMPUTE_REGION="eu-west-1, eu-west-3",
        KYUTAI_GATEWAY_QUIET_TIMEOUT_S="600",
    )
    assert done.status == 0, done.output
    function = plane.function
    assert function.resources.gpu_config.gpu_type == "A100-40GB"
    assert "CUDA_COMPUTE_CAP=80 " in "\n".join(plane.image_commands())
    assert function.max_concurrent_inputs == 12
    assert function.target_concurrent_inputs == 6
    assert function.autoscaler_settings.max_containers == 5
    assert function.autoscaler_settings.min_containers == 1
    assert function.autoscaler_settings.scaledown_window == 300
    assert function.timeout_secs == 86_400
    assert function.startup_timeout_secs == 900
    assert function.routing_region == "eu-west"
    regions = function.scheduler_placement.regions
    assert list(regions) == ["eu-west-1", "eu-west-3"]
    environment = plane.image_environment()
    assert environment["KYUTAI_GATEWAY_QUIET_TIMEOUT_S"] == "600"
    # A stream is moved before Modal cuts it.
    assert environment["KYUTAI_GATEWAY_MAX_STREAM_S"] == "86340"


async def test_a_ready_image_is_not_built_again(
    plane: ModalPlane, deploy: Deploy
) -> None:
    await deploy(KYUTAI_MODAL_IMAGE="registry.example/gateway:1")
    commands = plane.image_commands()
    assert "FROM registry.example/gateway:1" in commands
    assert "cargo" not in "\n".join(commands)


async def test_the_second_flavour(both: ModalPlane) -> None:
    assert both.unknown == []
    (server,) = (
        request.function
        for request in both.requests["FunctionCreate"]
        if request.function.is_server
    )
    assert server.http_config.port == pins.PORT
    assert list(server.http_config.proxy_regions) == ["eu-west"]
    assert server.http_config.exit_grace_period == 3600
    assert server.http_config.startup_timeout == 600
    assert server.max_concurrent_inputs == 68
    assert server.autoscaler_settings.target_concurrency_float == 48
    assert server.autoscaler_settings.max_containers == 2
    assert server.resources.gpu_config.gpu_type == "L40S"
    assert {mount.mount_path for mount in server.volume_mounts} == {
        "/weights",
        "/cuda-cache",
    }
    (published,) = both.requests["AppPublish"]
    assert set(published.class_ids) == {"KyutaiSTTRustService"}
    assert len(published.function_ids) == 3
    # What it serves on.
    assert both.image_environment()["KYUTAI_GATEWAY_PORT"] == str(pins.PORT)


async def test_what_cannot_work_is_refused_before_anything_is_created(
    plane: ModalPlane, deploy: Deploy
) -> None:
    done = await deploy(MODAL_WORKSPACE="a-name-of-twenty-let")
    assert done.status != 0
    assert done.output.startswith("Not deployed. MODAL_WORKSPACE")
    assert "longer than 19 characters" in done.output
    assert "give clients the address that is printed" in done.output
    assert "Traceback" not in done.output
    assert not plane.requests


async def test_a_container_makes_the_same_choices(
    both: ModalPlane, tmp_path: Path
) -> None:
    baked = both.image_environment()
    # Only this one file is there, and the two packages.
    (tmp_path / "app.py").write_text(APP.read_text())
    program = (
        "import app, json, sys; json.dump(app.chosen.environment(), sys.stdout);"
        "assert app.KyutaiSTTRustService and app.KyutaiSTTRustServer"
    )
    done = await anyio.run_process(
        [sys.executable, "-c", program], cwd=tmp_path, env=baked, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    again: dict[str, Any] = json.loads(done.stdout)
    assert {name: baked[name] for name in again} == again
