# SPDX-License-Identifier: MIT
"""`python -m kyutai_stream.cli`."""

from __future__ import annotations

from . import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
