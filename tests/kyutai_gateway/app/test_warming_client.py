"""The client wakes the real gateway; `FakeGateway` does it alike (test_warm.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from kyutai_gateway.stream import StreamRules
from kyutai_gateway.upstream import UpstreamState
from kyutai_stream.backend import ConnectRequest
from kyutai_stream.backends.modal import ModalBackend
from kyutai_stream.errors import AuthError

Open = Callable[..., Any]


async def test_it_waits_until_the_model_is_ready(bench: Open) -> None:
    pair: dict[str, Any] = {"key": "wk-one", "secret": "ws-two"}
    async with bench(auth="pair", **pair, state=UpstreamState.STARTING) as it:

        async def start() -> None:
            await anyio.sleep(12)
            it.upstream.become(UpstreamState.READY)

        backend = ModalBackend(url=it.url, **pair)
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            assert await backend.warm()
        assert anyio.current_time() - began == pytest.approx(12, abs=0.2)
        async with backend.connect(ConnectRequest()):
            assert anyio.current_time() - began == pytest.approx(12, abs=0.2)
        assert await backend.warm()


async def test_it_says_when_it_is_not(bench: Open) -> None:
    rules = StreamRules(warm_wait_s=7)
    async with bench(state=UpstreamState.STARTING, rules=rules) as it:
        began = anyio.current_time()
        assert await ModalBackend(url=it.url).warm() is False
        assert anyio.current_time() - began == pytest.approx(7, abs=0.2)


@pytest.mark.parametrize("auth", ["pair", "bearer"])
async def test_it_wants_the_keys(bench: Open, auth: str) -> None:
    pair: dict[str, Any] = {"key": "wk-one", "secret": "ws-two"}
    right: dict[str, Any] = pair if auth == "pair" else {"api_key": "token"}
    wrong: list[dict[str, Any]] = [{}, pair | {"secret": "ws"}, {"api_key": "tok"}]
    async with bench(auth=auth, bearer="token", **pair) as it:
        for keys in wrong:
            with pytest.raises(AuthError, match="401"):
                await ModalBackend(url=it.url, **keys).warm()
        assert await ModalBackend(url=it.url, **right).warm()
