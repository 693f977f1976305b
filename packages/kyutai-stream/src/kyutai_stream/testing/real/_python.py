# SPDX-License-Identifier: MIT
"""Which Python moshi-server is built against: it embeds one, used or not."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator

from attrs import frozen

from ._process import probe

__all__ = ["EmbeddedPython", "find_python"]

_PROBE = """
import json, sys, sysconfig
get = sysconfig.get_config_var
print(json.dumps([
    sys.version_info[:2], bool(get("Py_ENABLE_SHARED")), get("LIBDIR"), sys.executable,
]))
"""

# What pyo3 0.23 knows.
_OLDEST, _NEWEST = (3, 7), (3, 13)


@frozen(kw_only=True)
class EmbeddedPython:
    """An interpreter with a shared library."""

    executable: str
    library_folder: str
    """Where the shared library is; the server looks there when it starts."""
    tag: str
    """For example `cp311`."""


def find_python() -> EmbeddedPython | None:
    """Return this Python if it has a shared library, else another that has; blocks."""
    for executable in _candidates():
        status, output = probe(executable, "-c", _PROBE)
        if status != 0:
            continue
        version, shared, folder, name = json.loads(output.splitlines()[-1])
        if shared and _OLDEST <= tuple(version) <= _NEWEST:
            tag = f"cp{version[0]}{version[1]}"
            return EmbeddedPython(executable=name, library_folder=folder, tag=tag)
    return None


def _candidates() -> Iterator[str]:
    yield sys.executable
    yield "/usr/bin/python3"
    for minor in (13, 12, 11):
        found = shutil.which(f"python3.{minor}")
        if found is not None:
            yield found
