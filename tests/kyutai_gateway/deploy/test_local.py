"""The class of `modal/app.py` served on this machine, and spoken to."""

from __future__ import annotations

import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
import uvicorn

pytest.importorskip("modal")

from kyutai_gateway.config import from_environment
from kyutai_gateway.hosting import hosted_app
from kyutai_stream.backends.modal import ModalBackend
from kyutai_stream.testing.chaos import caption
from kyutai_stream.testing.moshi_server import FakeMoshiServer
from kyutai_stream.testing.tones import speak

APP = Path(__file__).parents[3] / "modal" / "app.py"


@pytest.fixture(scope="module")
def app() -> Iterator[ModuleType]:
    """The app file, as a module."""
    spec = importlib.util.spec_from_file_location("modal_app_under_test", APP)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


@pytest.fixture
def logs() -> Iterator[None]:
    """A container sends all logs to its output; here that is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("logs")
async def test_the_class_answers_a_conversation(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = speak("alpha bravo charlie. delta echo")
    async with FakeMoshiServer() as model:
        for name, value in app.chosen.environment().items():
            monkeypatch.setenv(name, value)
        # A container has a moshi-server of its own; this one hears tones.
        monkeypatch.setenv("KYUTAI_GATEWAY_ATTACH_URL", model.url)
        with warnings.catch_warnings():
            # That volumes are not mounted here.
            warnings.simplefilter("ignore")
            served = app.KyutaiSTTRustService().serve.local()
        config = uvicorn.Config(
            served, host="127.0.0.1", port=0, lifespan="on", log_config=None
        )
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve)
            with anyio.fail_after(20):
                # uvicorn sets a flag, no event.
                while not server.started:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            backend = ModalBackend(url=f"ws://127.0.0.1:{port}", dialect="protocol1")
            with anyio.fail_after(30):
                heard = await caption(backend, spoken)
            heard.require_whole(spoken)
            server.should_exit = True
    assert model.used_slots == 0


async def test_modal_lets_nobody_in_before_the_model_answered() -> None:
    """Its own handling of a lifespan, of the pinned version (it is not public)."""
    from modal._runtime.asgi import LifespanManager

    async with FakeMoshiServer() as model:
        await model.stop_listening()
        settings = from_environment(
            {
                "KYUTAI_GATEWAY_ATTACH_URL": model.url,
                "KYUTAI_GATEWAY_AUTH": "none",
                "KYUTAI_GATEWAY_READY_TIMEOUT_S": "0.5",
                "KYUTAI_GATEWAY_PROBE_INTERVAL_S": "0.1",
            }
        )
        manager: Any = LifespanManager
        lifespan = manager(hosted_app(settings), {})
        started = anyio.Event()

        async def start() -> None:
            await lifespan.lifespan_startup()
            started.set()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lifespan.background_task)
                tasks.start_soon(start)
                await anyio.sleep(0.5)
                assert not started.is_set()
                await model.start_listening()
                await started.wait()
                await lifespan.lifespan_shutdown()
