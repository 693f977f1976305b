# SPDX-License-Identifier: MIT
"""`python -m kyutai_gateway`: serve until SIGTERM, then drain and end.

The port is open at once; `/readyz` tells when the model is ready. Settings come from
the environment (`KYUTAI_GATEWAY_…`, see `kyutai_gateway.config`).

Exit status: 0 after a drain, 1 if the model server cannot be brought back or the port
is taken, 2 if a setting is wrong.
"""

from __future__ import annotations

import logging
import sys

import anyio

from .app import create_app
from .config import SettingsError, from_environment
from .logs import configure, log
from .servers import server_for
from .serving import serve
from .settings import GatewaySettings
from .supervisor import UpstreamFailed

__all__ = ["main"]


def main() -> None:
    """Run the gateway and exit."""
    try:
        settings = from_environment()
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)
    configure(settings.log_level)
    sys.exit(anyio.run(_run, settings))


async def _run(settings: GatewaySettings) -> int:
    try:
        async with server_for(settings) as upstream:
            await serve(create_app(settings, upstream), settings)
    except SettingsError as exc:
        # Found out late: weights that are not there.
        sys.stderr.write(f"{exc}\n")
        return 2
    except UpstreamFailed as exc:
        log("upstream_failed", level=logging.ERROR, why=str(exc))
        return 1
    except OSError as exc:
        log("cannot_listen", level=logging.ERROR, why=exc.strerror, port=settings.port)
        return 1
    log("ended")
    return 0


if __name__ == "__main__":
    main()
