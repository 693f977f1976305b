"""The shipped backend and the fake, read from the same reference by two people."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from kyutai_stream.backend import ConnectRequest
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.errors import (
    AuthError,
    CapacityError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
    ProtocolError,
)
from kyutai_stream.testing import FakeMoshiServer, check_backend, speak
from kyutai_stream.testing.moshi_server import (
    STT_1B,
    STT_2_6B,
    STT_PYTHON,
    ConnectionPlan,
    Model,
    Redecoding,
)

SPEECH = speak("alpha bravo charlie. delta echo", lead_s=0.3).samples


@pytest.mark.parametrize("speed", [1.0, 3.0, 30.0])
@pytest.mark.parametrize(
    ("model", "name", "python"),
    [
        (STT_1B, "stt-1b-en_fr", False),
        (STT_2_6B, "stt-2.6b-en", False),
        (STT_PYTHON, "stt-1b-en_fr", True),
        (Model(redecoding=Redecoding(exact_connections=0)), "stt-1b-en_fr", False),
    ],
    ids=["1b", "2.6b", "python", "redecoding"],
)
async def test_the_backend_conforms(
    model: Model, name: str, python: bool, speed: float
) -> None:
    async with FakeMoshiServer(model, speed=speed) as server:
        backend = MoshiServerBackend(url=server.url, model=name, python_server=python)
        await check_backend(backend, speech=SPEECH)
        await server.wait_until(lambda: server.used_slots == 0)
        assert all(not one.bad_messages for one in server.connections)


@pytest.mark.parametrize(
    "plan",
    [
        ConnectionPlan(empty_first_word=True),
        ConnectionPlan(end_words="missing"),
        ConnectionPlan(end_words="late"),
        ConnectionPlan(unknown_after_frames=3),
    ],
    ids=["empty word", "no ends", "late ends", "unknown"],
)
async def test_it_bears_the_servers_quirks(plan: ConnectionPlan) -> None:
    async with FakeMoshiServer(later=plan) as server:
        backend = MoshiServerBackend(url=server.url)
        await check_backend(backend, speech=SPEECH)


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        (ConnectionPlan(status=401), AuthError),
        (ConnectionPlan(status=404), ConfigError),
        (ConnectionPlan(status=503), CapacityError),
        (ConnectionPlan(full=True), CapacityError),
        (ConnectionPlan(wedged=True), ConnectFailed),
        (ConnectionPlan(accept_delay_s=60), ConnectFailed),
        (ConnectionPlan(close_at_once=1000), CapacityError),
        (ConnectionPlan(close_at_once=1006), KyutaiStreamError),
        (ConnectionPlan(cut_after_frames=5), ConnectionLost),
        (ConnectionPlan(cut_after_steps=5), ConnectionLost),
        (ConnectionPlan(garbage_after_frames=5), ProtocolError),
        (ConnectionPlan(text_after_frames=5), ProtocolError),
    ],
)
async def test_faults_become_errors(
    plan: ConnectionPlan, error: type[KyutaiStreamError]
) -> None:
    async with FakeMoshiServer(plans=[plan]) as server:
        backend = MoshiServerBackend(url=server.url)
        with pytest.raises(error), anyio.fail_after(60):
            async with backend.connect(ConnectRequest()) as connection:
                for _ in range(10):
                    await connection.send(np.zeros(1920, dtype=np.float32))
                async for _ in connection:
                    pass
        await server.wait_until(lambda: server.used_slots == 0)
        # The next connection is a healthy one.
        async with backend.connect(ConnectRequest()):
            assert server.used_slots == 1
