"""A control plane of Modal on loopback that knows enough for a deployment.

It answers what client 1.6.4 asks while deploying, keeps every request, and refuses
and records whatever it does not know (modal-serving.md section 13.1).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field, frozen

pytest.importorskip("modal")

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError
from grpclib.const import Handler, Status
from grpclib.server import Server, Stream
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase

ROOT = Path(__file__).parents[3]
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

    def image_commands(self) -> list[str]:
        """All lines of all image layers, in order."""
        return [
            line
            for request in self.requests["ImageGetOrCreate"]
            for line in request.image.dockerfile_commands
        ]

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
        metadata = api_pb2.FunctionHandleMetadata(
            function_name=request.function.function_name
        )
        for name in request.function.method_definitions:
            metadata.method_handle_metadata[name].web_url = WEB_URL
        data = api_pb2.FunctionData()
        data.ranked_functions.add().function.CopyFrom(request.function)
        return api_pb2.FunctionCreateResponse(
            function_id=request.existing_function_id,
            function=request.function,
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


@pytest.fixture
async def plane() -> AsyncIterator[ModalPlane]:
    """A control plane for one test."""
    made = ModalPlane()
    server = Server([_Service(made)])
    await server.start("127.0.0.1", 0)
    listener = server._server
    assert listener is not None
    made.port = listener.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


@frozen
class Deployed:
    """How `modal deploy` ended."""

    status: int
    output: str


@pytest.fixture
def deploy(plane: ModalPlane) -> Callable[..., Awaitable[Deployed]]:
    """Runs `modal deploy` on an app file against the control plane."""

    async def run(path: Path = ROOT / "modal" / "app.py", **variables: str) -> Deployed:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MODAL_", "KYUTAI_"))
        }
        environment: Mapping[str, str] = kept | plane.environment() | variables
        command = [sys.executable, "-m", "modal", "deploy", str(path)]
        with anyio.fail_after(50):
            done = await anyio.run_process(
                command,
                env=environment,
                cwd=ROOT,
                check=False,
                stderr=subprocess.STDOUT,
            )
        return Deployed(done.returncode, done.stdout.decode())

    return run
