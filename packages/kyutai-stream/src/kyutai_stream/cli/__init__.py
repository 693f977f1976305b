# SPDX-License-Identifier: MIT
"""The program `kyutai-stream`: transcribe, look for trouble, measure.

Needs the extra `cli`; `kyutai_stream.transcribe` is the same for programs.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the program and exit with 0 (done), 1 (failed) or 2 (wrong usage)."""
    try:
        from ._app import app
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("kyutai_stream"):
            raise
        sys.stderr.write(
            f"kyutai-stream: {exc.name} is not installed:"
            " pip install 'kyutai-stream[cli]'\n"
        )
        raise SystemExit(1) from None
    app()
