# SPDX-License-Identifier: MIT
"""What aiortc's own path decodes, kept; apart because scipy takes seconds to import."""

from __future__ import annotations

from ._receive_client import Ear, with_resample_poly, with_soxr
from ._receive_fitting import TakeFrame
from ._receive_wer_speech import Floats

__all__ = ["keep_all"]


class _Copy(Ear):
    """A consumer that keeps what it hears."""

    def __init__(self, parts: list[Floats]) -> None:
        super().__init__()
        self._parts = parts

    def hear(self, frame: Floats) -> None:
        self._parts.append(frame)


def keep_all(path: str, parts: list[Floats]) -> TakeFrame:
    """Return what turns decoded frames into 24 kHz mono at the end of `parts`."""
    ear = _Copy(parts)
    return with_soxr(ear) if path == "stock_soxr" else with_resample_poly(ear)
