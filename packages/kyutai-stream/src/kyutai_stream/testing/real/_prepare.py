# SPDX-License-Identifier: MIT
"""Whether the real server can start here, and what makes it so."""

from __future__ import annotations

import logging
from pathlib import Path

from ._build import (
    Progress,
    ServerBinary,
    build_server,
    default_cache,
    find_server,
    missing_tools,
)
from ._weights import ensure_weights

__all__ = ["prepare", "unavailable_reason"]

_log = logging.getLogger(__name__)

_PREPARE = "python -m kyutai_stream.testing.real prepare"


def unavailable_reason(cache: Path | None = None) -> str | None:
    """Say why `RealMoshiServer` cannot start here, None if it can.

    Blocks for a moment; builds nothing.

    Args:
        cache: Folder for server and weights instead of the user's cache.
    """
    if find_server(cache or default_cache()) is not None:
        return None
    reason = missing_tools()
    return f"moshi-server is not built: run {_PREPARE}" + (
        f" ({reason})" if reason else ""
    )


async def prepare(
    *, progress: Progress = _log.info, cache: Path | None = None
) -> ServerBinary:
    """Build the server and generate the weights; quick when they are there.

    Args:
        progress: Called with one line of text per step that does something.
        cache: Folder for server and weights instead of the user's cache.

    Raises:
        MoshiServerUnavailable: If this machine cannot build or run it.
    """
    cache = cache or default_cache()
    await ensure_weights(cache, progress)
    return await build_server(cache, progress)
