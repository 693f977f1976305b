# SPDX-License-Identifier: MIT
"""Write `requirements.txt`: what the gateway needs, pinned and hashed, for images.

A part of `requirements/dev.txt`, so that images run the versions that were tested.
`python modal/deploy/lock.py` from the repository's root, after `make lock`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["needed", "selection"]

ROOT = Path(__file__).parent.parent.parent
PYTHON = "3.12"
"""Of the images; the same as `kyutai_gateway.pins.PYTHON`."""
OURS = ("kyutai-gateway", "kyutai-stream")


def needed(package: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Return the names of all that a package installed here needs on Linux."""
    names: set[str] = set()
    for line in requires(package) or ():
        requirement = Requirement(line)
        if _applies(requirement, extras):
            name = canonicalize_name(requirement.name)
            names |= {name} | needed(name, frozenset(requirement.extras))
    return names


def selection(text: str, names: set[str]) -> str:
    """Return the blocks of a requirements file that concern these packages."""
    blocks = [block for block in _blocks(text) if _name(block) in names]
    return "\n".join(blocks) + "\n"


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(
        requirement.marker.evaluate(_environment() | {"extra": extra})
        for extra in {"", *extras}
    )


def _environment() -> dict[str, str]:
    environment = {name: str(value) for name, value in default_environment().items()}
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    python = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    return environment | linux | python


def _blocks(text: str) -> Iterator[str]:
    kept = [line for line in text.splitlines() if not line.strip().startswith("#")]
    for block in re.split(r"\n(?=\S)", "\n".join(kept)):
        marker = Requirement(block.partition("\\")[0].strip()).marker
        if marker is None or marker.evaluate(_environment()):
            yield block.rstrip(" \\\n")


def _name(block: str) -> str:
    return canonicalize_name(block.partition("==")[0])


def main() -> None:
    """Write the file beside this one."""
    text = (ROOT / "requirements" / "dev.txt").read_text()
    chosen = selection(text, needed("kyutai-gateway") - set(OURS))
    note = "# Written by lock.py from requirements/dev.txt; do not edit.\n"
    Path(__file__).with_name("requirements.txt").write_text(note + chosen)


if __name__ == "__main__":
    main()
