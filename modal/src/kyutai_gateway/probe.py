# SPDX-License-Identifier: MIT
"""Ask a moshi-server whether its model works, as a client would.

An open port proves nothing: a server whose model loop has died goes on accepting
streams and answering pages. So a stream is opened; `Ready` proves that the loop
runs, and the `Step` for one frame of silence that the model computes.

Source: rust/moshi-server/src/batched_asr.rs, release 0.6.4: the loop answers the
`Init` that the server queues for every stream; a model without pause heads sends no
steps.
"""

from __future__ import annotations

import enum

import anyio
import numpy as np
from attrs import frozen

from kyutai_stream import (
    CapacityError,
    ConnectFailed,
    ConnectionLost,
    ConnectRequest,
    KyutaiStreamError,
)
from kyutai_stream.backend import Connection, Progress
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.core import FRAME_SAMPLES

__all__ = ["Probe", "ProbeResult", "Verdict"]

SILENCE = np.zeros(FRAME_SAMPLES, np.float32)
RELEASE_S = 2.0
"""Longest wait for the server to give the probe's own place free."""
POLL_S = 0.01


class Verdict(enum.Enum):
    """What a probe found."""

    ALIVE = "alive"
    """`Ready`, and a `Step` where the model sends them."""
    FULL = "full"
    """It has no free place: nothing is known, least of all that it is dead."""
    SILENT = "silent"
    """It cannot be reached, or its model says nothing."""
    WRONG = "wrong"
    """It is not what the settings say: key, path or protocol."""


@frozen(kw_only=True)
class ProbeResult:
    """What a probe found, and why it thinks so."""

    verdict: Verdict
    reason: str = ""
    """For people; without keys."""


class Probe:
    """The handshake with one server.

    Args:
        url: Address of the stream.
        api_key: One of its `authorized_ids`.
        model: What it runs.
        ready_timeout_s: Seconds to connect, again for `Ready`, and again for the
            step.
    """

    def __init__(
        self, *, url: str, api_key: str, model: str, ready_timeout_s: float
    ) -> None:
        self._timeout_s = ready_timeout_s
        self._backend = MoshiServerBackend(
            url=url,
            api_key=api_key,
            model=model,
            ready_timeout_s=ready_timeout_s,
            open_timeout_s=ready_timeout_s,
        )

    async def run(self) -> ProbeResult:
        """Ask once. Takes at most 4 time-outs, 0.1 s with a healthy server."""
        try:
            async with self._backend.connect(ConnectRequest()) as connection:
                result = await self._step(connection)
        except CapacityError as exc:
            return await self._full(exc)
        except (ConnectFailed, ConnectionLost) as exc:
            return ProbeResult(verdict=Verdict.SILENT, reason=str(exc))
        except KyutaiStreamError as exc:
            return ProbeResult(verdict=Verdict.WRONG, reason=str(exc))
        return result

    async def release(self, used: int) -> None:
        """Wait until the server counts no more than `used` places as taken.

        It notices the end of a stream a moment later; until then the place of the
        probe is missing. Gives up after 2 s, or when the server does not tell.
        """
        with anyio.move_on_after(RELEASE_S):
            # The server tells its places only to those who ask.
            while (await self._slots() or (0, 0))[0] > used:  # noqa: ASYNC110
                await anyio.sleep(POLL_S)

    async def _step(self, connection: Connection) -> ProbeResult:
        if not self._backend.capabilities.acks:
            return ProbeResult(verdict=Verdict.ALIVE)
        with anyio.move_on_after(self._timeout_s):
            await connection.send(SILENCE)
            async for event in connection:
                if isinstance(event, Progress):
                    return ProbeResult(verdict=Verdict.ALIVE)
        return ProbeResult(
            verdict=Verdict.SILENT,
            reason=f"moshi-server made no step within {self._timeout_s:g} s",
        )

    async def _full(self, refusal: CapacityError) -> ProbeResult:
        """Believe the refusal unless the server itself counts free places."""
        used, total = await self._slots() or (0, 0)
        verdict = Verdict.SILENT if used < total else Verdict.FULL
        return ProbeResult(verdict=verdict, reason=str(refusal))

    async def _slots(self) -> tuple[int, int] | None:
        try:
            (slots,) = (await self._backend.slots(timeout_s=self._timeout_s)).values()
        except ConnectFailed:
            return None
        return slots.used, slots.total
