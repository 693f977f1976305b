# SPDX-License-Identifier: MIT
"""`pocketsphinx`: a small offline recogniser for demos and tests, low accuracy.

English only, no punctuation. About 7 % of words are wrong on flite voices, a third
on human speech. It is never chosen by itself. The decoder runs in a process of its
own (see `worker`), one for each connection.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from ...backend import Capabilities, Connection, ConnectionEvent, ConnectRequest, Ready
from ...errors import BackendUnavailable, ConnectFailed
from ._connection import PocketsphinxConnection
from ._process import Worker, open_worker

__all__ = ["PocketsphinxBackend"]

EVENT_BUFFER = 256
"""Events between the worker and the reading task; the worker waits when full."""


class PocketsphinxBackend:
    """Offline English recogniser in a worker process; demo and diagnosis only.

    Args:
        hangover_s: Seconds of quiet that end an utterance.
        start_timeout_s: Time for the worker to load its model (about 1 s).

    Raises:
        BackendUnavailable: If pocketsphinx is not installed.
    """

    name = "pocketsphinx"
    description = "offline demo recogniser, English only, LOW ACCURACY"
    capabilities = Capabilities(
        languages=("en",), endpointing=True, acks=True, resettable=True
    )

    def __init__(
        self, *, hangover_s: float = 0.39, start_timeout_s: float = 20.0
    ) -> None:
        if importlib.util.find_spec("pocketsphinx") is None:
            raise BackendUnavailable(
                "pocketsphinx is not installed: install kyutai-stream[pocketsphinx]"
            )
        self._hangover_s = hangover_s
        self._start_timeout_s = start_timeout_s

    @asynccontextmanager
    async def connect(
        self, request: ConnectRequest
    ) -> AsyncGenerator[Connection, None]:
        """Start a worker process and wait until its model is loaded.

        Raises:
            ConnectFailed: If the worker is not ready in time or ends at once.
        """
        async with open_worker() as worker:
            await self._wait_ready(worker)
            send, receive = anyio.create_memory_object_stream[ConnectionEvent](
                EVENT_BUFFER
            )
            async with send, receive, anyio.create_task_group() as tasks:
                send.send_nowait(Ready(capabilities=self.capabilities))
                connection = PocketsphinxConnection(
                    worker, send, receive, hangover_s=self._hangover_s
                )
                tasks.start_soon(connection.pump)
                try:
                    yield connection
                finally:
                    tasks.cancel_scope.cancel()

    async def _wait_ready(self, worker: Worker) -> None:
        message = None
        with anyio.move_on_after(self._start_timeout_s) as scope:
            message = await worker.receive()
        if scope.cancelled_caught:
            raise ConnectFailed(
                f"pocketsphinx was not ready in {self._start_timeout_s:g} s"
            )
        if message is None or not message.get("ready"):
            reason = (message or {}).get("error", "it ended at once")
            raise ConnectFailed(f"the pocketsphinx process failed: {reason}")
