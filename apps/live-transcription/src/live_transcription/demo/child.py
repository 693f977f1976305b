# SPDX-License-Identifier: AGPL-3.0-or-later
"""The ExApp as a child of the demo: the real one, but it ends with its parent.

The parent holds our standard input open; when that ends, however the parent
died, so do we.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from live_transcription.__main__ import main

__all__: list[str] = []


def _follow_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_follow_parent, daemon=True).start()
    sys.argv[1:] = []
    sys.exit(main())
