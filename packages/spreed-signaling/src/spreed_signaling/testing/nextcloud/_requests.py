# SPDX-License-Identifier: MIT
"""What came in, for tests to look at and to wait for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio
from attrs import field, frozen

__all__ = ["ReceivedRequest", "RequestLog"]


@frozen(kw_only=True)
class ReceivedRequest:
    """One request that the stand-in received."""

    method: str
    path: str
    summary: str
    """A few words, such as `room join TOKEN`, `ping TOKEN 2` or `status`."""
    body: bytes = field(repr=False)


class RequestLog:
    """The last requests received.

    Args:
        limit: How many are kept.
    """

    def __init__(self, limit: int) -> None:
        self.requests: deque[ReceivedRequest] = deque(maxlen=limit)
        """Oldest first."""
        self._received = anyio.Event()

    def add(self, request: ReceivedRequest) -> None:
        """Note a request; wakes all who wait for one."""
        self.requests.append(request)
        self._received.set()
        self._received = anyio.Event()

    async def wait_for(
        self, wanted: Callable[[ReceivedRequest], bool]
    ) -> ReceivedRequest:
        """Return the first that `wanted` accepts, once there is one."""
        while True:
            arrived = self._received
            for request in self.requests:
                if wanted(request):
                    return request
            await arrived.wait()
