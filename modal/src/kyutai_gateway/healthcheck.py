# SPDX-License-Identifier: MIT
"""`python -m kyutai_gateway.healthcheck [ADDRESS]`, for a container's HEALTHCHECK.

Asks `/readyz`, and counts a gateway that is full or draining as healthy: it does what
it should, and Docker Swarm replaces containers that are not healthy. Balancers ask
`/readyz` itself.
"""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

__all__ = ["healthy", "main"]

TIMEOUT_S = 4.0
WELL = ("ready", "full", "draining")
ADDRESS = "http://127.0.0.1:8000"


def healthy(address: str) -> bool:
    """Whether the gateway at an address does what it should; blocks.

    Args:
        address: Such as `http://127.0.0.1:8000`.
    """
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        body = connection.getresponse().read(100)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return body.decode("ascii", "replace").strip() in WELL


def main(arguments: list[str]) -> int:
    """Return the exit status: 0 for healthy, 1 otherwise."""
    return int(not healthy(arguments[0] if arguments else ADDRESS))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
