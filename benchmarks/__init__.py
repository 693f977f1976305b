# SPDX-License-Identifier: MIT
"""Figures of this project, printed by commands: `python -m benchmarks.NAME`.

Run from the root of the repository. Every command has `--help`, prints a table for
people and with `--json` the same as a list of rows. Wall-clock figures depend on the
machine and on what else it does, so the load is printed with them.
"""

from __future__ import annotations
