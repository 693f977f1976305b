# SPDX-License-Identifier: MIT
"""Noticing end-to-end encrypted calls.

A receiver that ignores the encryption decodes noise with a valid Opus header: a
speech recogniser then hallucinates, and nothing reports an error.

Source:
    nextcloud/spreed `src/utils/e2ee/`: clients of an encrypted call send each other
    messages whose payload type begins with `encryption.`, bots included. A feature
    `encryption` in join events only says that a client could.
"""

from __future__ import annotations

from typing import Any

__all__ = ["is_encryption_signal"]


def is_encryption_signal(data: Any) -> bool:
    """Whether received data belongs to the key exchange of an encrypted call.

    Args:
        data: `DataReceived.data`, any JSON.
    """
    if not isinstance(data, dict):
        return False
    payload = data.get("payload")
    kind = payload.get("type") if isinstance(payload, dict) else None
    return isinstance(kind, str) and kind.startswith("encryption.")
