# SPDX-License-Identifier: MIT
"""`python -m kyutai_gateway` with a profiler in it.

`python -m benchmarks._gateway_ours FILE COUNT` writes the shares of the dearest
functions to the file, as JSON, when it ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kyutai_gateway.__main__ import main as gateway

from ._sampler import Sampler

__all__: list[str] = []


def main() -> None:
    """Run it until SIGTERM."""
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    sampler = Sampler()
    sampler.start()
    try:
        gateway()
    finally:
        sampler.stop()
        # Shares in percent; whoever knows the CPU time can turn them into that.
        path.write_text(json.dumps(sampler.rows(100.0, count)))


if __name__ == "__main__":
    main()
