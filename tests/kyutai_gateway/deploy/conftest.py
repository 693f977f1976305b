"""A control plane of Modal on loopback that knows enough for a deployment.

It answers what client 1.6.4 asks while deploying, keeps every request, and refuses
and records whatever it does not know (modal-serving.md section 13.1).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field, frozen

pytest.importorskip("modal")

from grpclib import GRPCError
from grpclib.const import Handler, Status
from grpclib.server import Server, Stream
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase

ROOT = Path(__file__).parents[3]
APP = ROOT / "modal" / "app.py"
BUILDER = "2025.06"
WEB_URL = "https://acme--kyutai-stt-rust-kyutaisttrustservice-serve.modal.run"
Request = Any


@define
class ModalPlane:
    """What was asked, and the answers."""

    port: int = 0
    requests: dict[str, list[Request]] = field(factory=dict)
    """By the name of the call, in order."""
    unknown: list[str] = field(factory=list)
    """Calls that got UNIMPLEMENTED."""
    output: str = ""
    """What `modal deploy` printed, where a fixture ran it."""
    _functions: dict[str, str] = field(factory=dict)

    def environment(self) -> dict[str, str]:
        """What a client needs to come here and nowhere else."""
        return {
            "MODAL_SERVER_URL": f"http://127.0.0.1:{self.port}",
            "MODAL_TOKEN_ID": "ak-test",
            "MODAL_TOKEN_SECRET": "as-test",
            "MODAL_CONFIG_PATH": "/nonexistent/modal.toml",
            "NO_COLOR": "1",
        }

    @property
    def function(self) -> Request:
        """How the function flavour was created."""
        return self.created("KyutaiSTTRustService.*")

    def created(self, name: str) -> Request:
        """How a function was created."""
        (one,) = (
            request.function
            for request in self.requests["FunctionCreate"]
            if request.function.function_name == name
        )
        return one

    @property
    def images(self) -> list[Request]:
        """The layers, in order."""
        return [request.image for request in self.requests["ImageGetOrCreate"]]

    def image_commands(self) -> list[str]:
        """All lines of all image layers, in order."""
        return [line for image in self.images for line in image.dockerfile_commands]

    def image_environment(self) -> dict[str, str]:
        """The variables that are part of the image."""
        lines = (line for line in self.image_commands() if line.startswith("ENV "))
        words = (shlex.split(line.removeprefix("ENV "))[0] for line in lines)
        return dict(word.split("=", 1) for word in words)

    def answer(self, call: str, request: Request) -> Any:
        """The reply that satisfies the client."""
        self.requests.setdefault(call, []).append(request)
        if call in _EMPTY:
            return None
        reply = getattr(self, f"_{call}", None)
        if reply is None:
            self.unknown.append(call)
            raise GRPCError(Status.UNIMPLEMENTED, call)
        return reply(request)

    def _ClientHello(self, _: Request) -> Any:
        return api_pb2.ClientHelloResponse(image_builder_version=BUILDER)

    def _AuthTokenGet(self, _: Request) -> Any:
        claims = base64.urlsafe_b64encode(json.dumps({"exp": 2**33}).encode())
        return api_pb2.AuthTokenGetResponse(token=f"x.{claims.decode().rstrip('=')}.x")

    def _EnvironmentGetOrCreate(self, _: Request) -> Any:
        settings = api_pb2.EnvironmentSettings(image_builder_version=BUILDER)
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id="en-1",
            metadata=api_pb2.EnvironmentMetadata(name="main", settings=settings),
        )

    def _AppGetByDeploymentName(self, _: Request) -> Any:
        return api_pb2.AppGetByDeploymentNameResponse()

    def _AppCreate(self, _: Request) -> Any:
        return api_pb2.AppCreateResponse(app_id="ap-1", app_page_url="http://app")

    def _AppGetOrCreate(self, _: Request) -> Any:
        return api_pb2.AppGetOrCreateResponse(app_id="ap-1")

    def _AppGetLayout(self, _: Request) -> Any:
        return api_pb2.AppGetLayoutResponse()

    def _AppDeploymentHistory(self, _: Request) -> Any:
        return api_pb2.AppDeploymentHistoryResponse()

    def _MountGetOrCreate(self, _: Request) -> Any:
        return api_pb2.MountGetOrCreateResponse(
            mount_id="mo-1", handle_metadata=api_pb2.MountHandleMetadata()
        )

    def _MountBatchedCheckExistence(self, _: Request) -> Any:
        return api_pb2.MountBatchedCheckExistenceResponse()

    def _VolumeGetOrCreate(self, request: Request) -> Any:
        name = request.deployment_name
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=f"vo-{name}", metadata=api_pb2.VolumeMetadata(name=name)
        )

    def _ImageGetOrCreate(self, _: Request) -> Any:
        number = len(self.requests["ImageGetOrCreate"])
        result = api_pb2.GenericResult(
            status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
        )
        return api_pb2.ImageGetOrCreateResponse(
            image_id=f"im-{number}",
            result=result,
            metadata=api_pb2.ImageMetadata(image_builder_version=BUILDER),
        )

    def _FunctionPrecreate(self, request: Request) -> Any:
        function_id = f"fu-{len(self._functions)}"
        self._functions[function_id] = request.function_name
        return api_pb2.FunctionPrecreateResponse(
            function_id=function_id,
            handle_metadata=api_pb2.FunctionHandleMetadata(
                function_name=request.function_name,
                function_type=request.function_type,
            ),
        )

    def _FunctionCreate(self, request: Request) -> Any:
        created = api_pb2.Function()
        created.CopyFrom(request.function)
        metadata = api_pb2.FunctionHandleMetadata(function_name=created.function_name)
        for name, method in created.method_definitions.items():
            method.web_url = WEB_URL
            metadata.method_handle_metadata[name].web_url = WEB_URL
        data = api_pb2.FunctionData()
        data.ranked_functions.add().function.CopyFrom(created)
        return api_pb2.FunctionCreateResponse(
            function_id=request.existing_function_id,
            function=created,
            function_data=data,
            handle_metadata=metadata,
        )

    def _ClassCreate(self, _: Request) -> Any:
        return api_pb2.ClassCreateResponse(
            class_id="cs-1", handle_metadata=api_pb2.ClassHandleMetadata()
        )

    def _AppPublish(self, _: Request) -> Any:
        # With 0 the client says that nothing has changed.
        return api_pb2.AppPublishResponse(url="http://app", deployed_at=1.0)


_EMPTY = ("AppHeartbeat", "AppClientDisconnect", "AppSetTags")


class _Service(ModalClientBase):
    def __init__(self, plane: ModalPlane) -> None:
        self._plane = plane

    def __mapping__(self) -> dict[str, Handler]:
        mapping: dict[str, Handler] = super().__mapping__()
        return {
            path: Handler(
                self._handler(path, known.reply_type),
                known.cardinality,
                known.request_type,
                known.reply_type,
            )
            for path, known in mapping.items()
        }

    def _handler(
        self, path: str, reply_type: type[Any]
    ) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
        async def handle(stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            reply = self._plane.answer(path.rpartition("/")[2], request)
            await stream.send_message(reply_type() if reply is None else reply)

        return handle


# The base class wants every one of its calls; here they are made by `__mapping__`.
_Service.__abstractmethods__ = frozenset()


@frozen
class Deployed:
    """How `modal deploy` ended."""

    status: int
    output: str


async def run_deploy(
    plane: ModalPlane, path: Path, variables: dict[str, str]
) -> Deployed:
    """Run `modal deploy` on an app file against a control plane."""
    kept = {
        name: value
        # Only to hand it on, less what could lead to the real Modal.
        for name, value in os.environ.items()  # noqa: TID251
        if not name.startswith(("MODAL_", "KYUTAI_"))
    }
    with anyio.fail_after(50):
        done = await anyio.run_process(
            [sys.executable, "-m", "modal", "deploy", str(path)],
            env=kept | plane.environment() | variables,
            cwd=ROOT,
            check=False,
            stderr=subprocess.STDOUT,
        )
    return Deployed(done.returncode, done.stdout.decode())


@asynccontextmanager
async def open_plane() -> AsyncIterator[ModalPlane]:
    """Run a control plane."""
    made = ModalPlane()
    service = _Service(made)  # type: ignore[abstract]  # see above
    server = Server([service])
    await server.start("127.0.0.1", 0)
    listener = server._server
    assert isinstance(listener, asyncio.Server)
    made.port = listener.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def plane() -> AsyncIterator[ModalPlane]:
    """A control plane for one test."""
    async with open_plane() as opened:
        yield opened


@pytest.fixture
def deploy(plane: ModalPlane) -> Callable[..., Awaitable[Deployed]]:
    """Deploys to `plane`, by default the app of this repository."""

    async def run(path: Path = APP, **variables: str) -> Deployed:
        return await run_deploy(plane, path, variables)

    return run


@pytest.fixture(scope="module")
async def default() -> AsyncIterator[ModalPlane]:
    """Where the app was deployed without any variable; not to be changed."""
    async with open_plane() as opened:
        done = await run_deploy(opened, APP, {})
        assert done.status == 0, done.output
        opened.output = done.output
        yield opened


@pytest.fixture(scope="module")
async def both() -> AsyncIterator[ModalPlane]:
    """Where both flavours were deployed, in Europe, on an L40S; likewise."""
    variables = {
        "KYUTAI_MODAL_FLAVOUR": "both",
        "KYUTAI_MODAL_ROUTING_REGION": "eu-west",
        "KYUTAI_MODAL_GPU": "l40s",
    }
    async with open_plane() as opened:
        done = await run_deploy(opened, APP, variables)
        assert done.status == 0, done.output
        opened.output = done.output
        yield opened
