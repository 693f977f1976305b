# SPDX-License-Identifier: MIT
"""What to say when the libraries of an extra are not there."""

from __future__ import annotations

from ..errors import BackendUnavailable

__all__ = ["not_installed"]


def not_installed(missing: ModuleNotFoundError, extra: str) -> BackendUnavailable:
    """The error for an import that failed.

    Args:
        missing: Names the library.
        extra: The one that brings it.
    """
    library = (missing.name or "").partition(".")[0]
    return BackendUnavailable(
        f"{library} is not installed: pip install 'kyutai-stream[{extra}]'"
    )
