# SPDX-License-Identifier: MIT
"""Becomes another program that the kernel kills when the gateway is gone.

Run as a script: `python -I -S _launch.py PID-OF-THE-GATEWAY PROGRAM [ARGUMENT …]`.
Even SIGKILL of the gateway then leaves no moshi-server behind, which would hold the
GPU's memory. Only Linux can do that; elsewhere the program is started all the same.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main"]

PR_SET_PDEATHSIG = 1
CANNOT_START = 127


def main(arguments: list[str]) -> None:
    """Turn this process into the program; returns only by ending it."""
    gateway, *command = arguments
    if sys.platform == "linux":
        # Imported here: costs time that other systems need not spend.
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(gateway):
            # It was gone before the line above.
            sys.exit(CANNOT_START)
    try:
        os.execv(command[0], command)
    except OSError as exc:
        sys.stderr.write(f"cannot start {command[0]}: {exc.strerror}\n")
        sys.exit(CANNOT_START)


if __name__ == "__main__":
    main(sys.argv[1:])
