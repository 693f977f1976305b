"""The files for Docker and Kubernetes agree with the code and with each other."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kyutai_gateway import pins
from kyutai_gateway.app import STREAM_PATH, create_app
from kyutai_gateway.attached import AttachedServer
from kyutai_gateway.config import from_environment
from kyutai_gateway.deployment import Deployment
from kyutai_gateway.metrics import PREFIX
from kyutai_gateway.settings import GatewaySettings

yaml: Any = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "modal" / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def image_environment() -> dict[str, str]:
    """What the gateway's stage sets."""
    stage = DOCKERFILE.partition(" AS gateway\n")[2]
    (block,) = re.findall(r"^ENV (PATH=.*?[^\\])$", stage, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"(\w+)=(\S+)", block))


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def example() -> dict[str, str]:
    """The variables of `.env.example`, the empty ones filled in."""
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and line[0] != "#")
    return {name: value or "filled-in" for name, value in pairs}


def resolved(text: str) -> str:
    """Do what compose does with `${NAME:-default}` and `${NAME:?error}`."""
    return re.sub(
        r"\$\{(\w+):[-?]([^}]*)\}", lambda m: example().get(m[1], m[2]), str(text)
    )


def manifests() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text())


def of_kind(kind: str) -> dict[str, Any]:
    (one,) = (manifest for manifest in manifests() if manifest["kind"] == kind)
    return one


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = of_kind("Deployment")["spec"]["template"]["spec"]
    return spec


def gateway_settings(environment: dict[str, str]) -> GatewaySettings:
    """What the gateway makes of it; it refuses names and values it does not know."""
    return from_environment(image_environment() | environment)


# The image


def test_the_image_has_the_pinned_versions() -> None:
    cuda = pins.CUDA_IMAGE.removeprefix("nvidia/cuda:").partition("-devel")[0]
    assert f"FROM {pins.CUDA_IMAGE} AS tools-gpu" in DOCKERFILE
    assert f"FROM nvidia/cuda:{cuda}-runtime-ubuntu24.04 AS base-gpu" in DOCKERFILE
    assert f"ARG MOSHI_SERVER_VERSION={pins.MOSHI_SERVER_VERSION}" in DOCKERFILE
    assert f"ARG RUST_VERSION={pins.RUST}" in DOCKERFILE
    assert f"PYO3_PYTHON=/usr/bin/python{pins.PYTHON}" in DOCKERFILE
    assert f"libpython{pins.PYTHON}t64" in DOCKERFILE
    assert pins.HUB_CLIENT in DOCKERFILE
    assert "--locked" in DOCKERFILE and "--require-hashes" in DOCKERFILE
    assert ":latest" not in DOCKERFILE
    # Both systems must have the same Python and OpenSSL.
    systems = set(re.findall(r"ubuntu-?:?(\d\d\.\d\d)", DOCKERFILE))
    assert systems == {"24.04"}


def test_the_image_builds_with_the_same_tools_as_on_modal() -> None:
    for package in pins.SYSTEM_PACKAGES:
        assert re.search(rf"\s{re.escape(package)}\s", DOCKERFILE), package
    (command,) = (one for one in pins.build_commands(89) if "cargo install" in one)
    for name in ("CXXFLAGS", "CMAKE_POLICY_VERSION_MINIMUM", "PYO3_PYTHON"):
        assert name in command and name in DOCKERFILE


def test_the_image_gets_the_weights_where_the_gateway_looks() -> None:
    chosen = Deployment()
    (line,) = re.findall(r'^CMD (\["/opt/hub.*?\])$', DOCKERFILE, re.M | re.S)
    words: list[str] = yaml.safe_load(line.replace("\\\n", ""))
    assert " ".join(words).removeprefix("/opt/hub/bin/") == chosen.download_command
    assert image_environment()["KYUTAI_GATEWAY_WEIGHTS_DIR"] == chosen.weights
    assert image_environment()["CUDA_CACHE_PATH"] == pins.CACHE_DIR


def test_the_image_runs_as_nobody_in_particular() -> None:
    stages = DOCKERFILE.split("\nFROM ")[-2:]
    for stage in DOCKERFILE.split("\nFROM "):
        last = stage.rpartition("USER ")[2] if "USER " in stage else ""
        assert "CMD" not in stage or last.startswith("10001:10001")
    assert "USER 10001:10001" in stages[-1]
    assert "ENTRYPOINT" in stages[-1] and "STOPSIGNAL SIGTERM" in stages[-1]


def test_the_image_tells_how_it_is() -> None:
    settings = gateway_settings({"KYUTAI_GATEWAY_AUTH": "none"})
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert f"EXPOSE {settings.port}\n" in DOCKERFILE
    assert f'kyutai_gateway.healthcheck", "http://127.0.0.1:{settings.port}' in (
        DOCKERFILE
    )
    # Without keys it does not start at all.
    with pytest.raises(ValueError, match="KYUTAI_GATEWAY_KEY"):
        gateway_settings({})


def test_the_image_gets_no_more_than_it_needs() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = set(re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE))
    assert copied == kept
    assert all((ROOT / path).exists() for path in kept)


def test_the_requirements_are_those_of_the_tests() -> None:
    lock = runpy.run_path(str(DEPLOY / "lock.py"))
    text = (ROOT / "requirements" / "dev.txt").read_text()
    names = lock["needed"]("kyutai-gateway") - set(lock["OURS"])
    assert {"anyio", "attrs", "numpy", "uvicorn", "websockets", "msgpack"} <= names
    written = (DEPLOY / "requirements.txt").read_text().partition("\n")[2]
    assert written == lock["selection"](text, names), "python modal/deploy/lock.py"
    assert lock["PYTHON"] == pins.PYTHON


def _tool(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def _run(*command: str) -> str:
    done = subprocess.run(
        command, cwd=DEPLOY, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(_tool("hadolint") is None, reason="hadolint is missing")
def test_hadolint_has_nothing_to_say() -> None:
    assert _run(_tool("hadolint") or "", "Dockerfile") == ""


# compose


@pytest.mark.parametrize("service", ["gateway", "gateway-cpu"])
def test_compose_gives_the_gateway_settings_it_knows(service: str) -> None:
    given = compose()["services"][service]["environment"]
    environment = {name: resolved(value) for name, value in given.items()}
    settings = gateway_settings(environment)
    assert settings.auth == "pair" and settings.key == "filled-in"
    assert settings.device == ("cpu" if "cpu" in service else "cuda")
    grace = compose()["services"][service]["stop_grace_period"]
    assert settings.drain_s < int(grace.removesuffix("s"))


def test_compose_publishes_on_this_machine_only() -> None:
    for name in ("gateway", "gateway-cpu"):
        service = compose()["services"][name]
        (port,) = service["ports"]
        assert resolved(port) == "127.0.0.1:8000:8000"
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert "weights:/weights:ro" in service["volumes"]
        assert f"kernels:{pins.CACHE_DIR}" in service["volumes"]


def test_compose_reserves_one_gpu_and_builds_what_the_dockerfile_has() -> None:
    services = compose()["services"]
    (device,) = services["gateway"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    profiles = {name: service["profiles"] for name, service in services.items()}
    assert profiles == {
        "gateway": ["gpu"],
        "gateway-cpu": ["cpu"],
        "weights": ["weights"],
    }
    for service in services.values():
        build = service["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
        assert f" AS {build['target']}\n" in DOCKERFILE
        for argument in build.get("args", {}):
            assert f"ARG {argument}" in DOCKERFILE


def test_the_example_has_exactly_the_variables_that_compose_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert asked == set(example())


def test_docker_compose_accepts_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("docker compose is missing")
    filled = tmp_path / "env"
    filled.write_text("".join(f"{k}={v}\n" for k, v in example().items()))
    command = [docker, "compose", "--env-file", str(filled)]
    for profile in ("gpu", "cpu", "weights"):
        _run(*command, "--profile", profile, "config", "--quiet")


# Kubernetes


def test_a_pod_has_settings_the_gateway_knows(tmp_path: Path) -> None:
    (container,) = pod()["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    mounted = next(m for m in container["volumeMounts"] if m["name"] == "keys")
    for name in ("KYUTAI_GATEWAY_KEY_FILE", "KYUTAI_GATEWAY_SECRET_FILE"):
        path = Path(environment[name])
        assert str(path.parent) == mounted["mountPath"]
        here = tmp_path / path.name
        here.write_text("filled-in\n")
        environment[name] = os.fspath(here)
    settings = gateway_settings(environment)
    assert settings.key == settings.secret == "filled-in"
    # preStop, then the drain, then the end, all before SIGKILL.
    pre_stop_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    grace_s = pod()["terminationGracePeriodSeconds"]
    assert grace_s == 3600
    assert pre_stop_s + settings.drain_s + settings.terminate_s + 10 < grace_s
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] > settings.start_timeout_s
    assert container["ports"][0]["containerPort"] == settings.port


def test_a_pod_that_is_full_is_passed_over_and_not_killed() -> None:
    (container,) = pod()["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod()["securityContext"]["runAsUser"] == 10001
    assert pod()["enableServiceLinks"] is False


def test_folders_of_a_pod_are_where_the_image_has_them() -> None:
    (container,) = pod()["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["weights"]["mountPath"] == pins.WEIGHTS_DIR
    assert mounts["weights"]["readOnly"]
    assert mounts["kernels"]["mountPath"] == pins.CACHE_DIR
    assert {volume["name"] for volume in pod()["volumes"]} == set(mounts)
    claims = {one["metadata"]["name"] for one in manifests() if "Claim" in one["kind"]}
    used = next(v for v in pod()["volumes"] if v["name"] == "weights")
    assert used["persistentVolumeClaim"]["claimName"] in claims


def test_streams_go_to_gateways_only() -> None:
    wanted = of_kind("Service")["spec"]["selector"]
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert wanted.items() <= labels.items()
    job = of_kind("Job")["spec"]["template"]["metadata"]["labels"]
    assert not wanted.items() <= job.items()
    (rule,) = of_kind("Ingress")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert STREAM_PATH.startswith(path["path"])
    assert path["backend"]["service"]["name"] == of_kind("Service")["metadata"]["name"]
    annotations = of_kind("Ingress")["metadata"]["annotations"]
    assert annotations["haproxy.org/load-balance"] == "leastconn"


async def shown_metrics() -> str:
    """What a gateway in front of a server that does not answer shows."""
    settings = GatewaySettings(auth="none", attach_url="ws://127.0.0.1:1")
    gateway = create_app(settings, AttachedServer(settings))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(gateway), base_url="http://gateway"
    ) as client:
        return (await client.get("/metrics")).text


async def test_pods_come_by_used_and_total_places() -> None:
    spec = of_kind("ScaledObject")["spec"]
    name = of_kind("Deployment")["metadata"]["name"]
    assert spec["scaleTargetRef"]["name"] == name
    (trigger,) = spec["triggers"]
    wanted = re.findall(rf"{PREFIX}(\w+)", trigger["metadata"]["query"])
    text = await shown_metrics()
    assert wanted
    for metric in wanted:
        assert f"# TYPE {PREFIX}{metric} gauge\n" in text
    assert trigger["metadata"]["threshold"] == "0.75"
    assert spec["maxReplicaCount"] <= 8


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing")
def test_kustomize_puts_it_together() -> None:
    made = list(yaml.safe_load_all(_run("kubectl", "kustomize", "kubernetes")))
    assert {one["kind"] for one in made} == {
        one["kind"] for one in manifests() if one["kind"] != "Kustomization"
    }
    (deployment,) = (one for one in made if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    # Its image was replaced, so the names agree.
    assert container["image"].startswith("registry.example/")
