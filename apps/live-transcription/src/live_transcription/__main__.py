# SPDX-License-Identifier: AGPL-3.0-or-later
"""`live-transcription`: the ExApp's server, or its demo."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

USAGE = """\
usage: live-transcription          run the ExApp; settings come from the environment
       live-transcription demo     show captions without Nextcloud (see demo --help)
"""

GRACE_S = 3
"""Seconds that open requests get when the process is told to stop."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server, or the demo.

    Args:
        argv: Arguments without the program's name; None takes the process's.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        return _serve()
    if arguments[0] == "demo":
        # The demo needs packages that a server does not have.
        from .demo.cli import run

        return int(run(arguments[1:]) or 0)
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    sys.stderr.write(USAGE)
    return 2


def _serve() -> int:
    import uvicorn

    from .config import SettingsError, read_environment
    from .logs import configure_logging

    try:
        settings = read_environment()
    except SettingsError as exc:
        sys.stderr.write(f"live-transcription cannot start: {exc}\n")
        return 1
    configure_logging()
    # After the settings were read: nc_py_api loads a `.env` file when imported.
    from .app import create_app

    uvicorn.run(
        create_app(settings),
        host=settings.app_host,
        port=settings.app_port,
        uds=settings.unix_socket,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
