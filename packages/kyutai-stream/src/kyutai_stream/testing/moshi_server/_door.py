# SPDX-License-Identifier: MIT
"""Who may open a stream: paths, credentials, planned refusals."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import SplitResult, parse_qs, urlsplit

import anyio
from websockets.http11 import Request, Response

from ._path import WatchedConnection
from .options import ConnectionPlan

__all__ = ["Door"]

KEY_HEADER = "kyutai-api-key"


class Door:
    """Lets connections in, each with the plan whose turn it is.

    Args:
        path: Path of the stream.
        keys: Accepted keys.
        plans: For the first connections, in order.
        later: For all after those.
    """

    def __init__(
        self,
        path: str,
        keys: Sequence[str],
        plans: Sequence[ConnectionPlan],
        later: ConnectionPlan | None,
    ) -> None:
        self.path = path
        self.plans = list(plans)
        """For the next connections."""
        self._later = later or ConnectionPlan()
        self._keys = frozenset(keys)

    async def refusal(
        self, socket: WatchedConnection, request: Request
    ) -> Response | None:
        """Refuse a handshake; None lets it in, with its plan in `socket.plan`."""
        target = urlsplit(request.path)
        if target.path != self.path:
            return socket.respond(HTTPStatus.NOT_FOUND, "")
        plan = self.plans.pop(0) if self.plans else self._later
        if plan.accept_delay_s:
            await anyio.sleep(plan.accept_delay_s)
        if plan.status is not None:
            return socket.respond(HTTPStatus(plan.status), "")
        if _key(request, target) not in self._keys:
            return socket.respond(HTTPStatus.UNAUTHORIZED, "")
        socket.plan = plan
        return None


def _key(request: Request, target: SplitResult) -> str:
    # A header that is there wins, even if it is wrong.
    query = parse_qs(target.query).get("auth_id", [""])[-1]
    return request.headers.get(KEY_HEADER, query)
