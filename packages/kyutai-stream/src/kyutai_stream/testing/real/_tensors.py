# SPDX-License-Identifier: MIT
"""Write safetensors files whose zeros take neither time nor disk space."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

__all__ = ["Array", "Zeros", "save_sparse"]

Array = npt.NDArray[np.float32]
"""A tensor with content."""


@frozen
class Zeros:
    """A tensor of zeros that is never allocated."""

    shape: tuple[int, ...] = field()


def save_sparse(tensors: Mapping[str, Array | Zeros], path: Path) -> int:
    """Write float32 tensors in the safetensors format; zeros become holes.

    The format: length of the header as little-endian u64, the header as JSON padded
    with spaces to 8 bytes, then the tensors without gaps.

    Args:
        tensors: Contents by name; the order in the file is the given one.
        path: File to write; replaced if it exists.

    Returns:
        Size of the file in bytes, holes included.
    """
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + 4 * math.prod(tensor.shape)
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        at = base = file.tell()
        for tensor in tensors.values():
            if not isinstance(tensor, Zeros):
                file.seek(at)
                file.write(tensor.astype("<f4").tobytes())
            at += 4 * math.prod(tensor.shape)
        file.truncate(base + end)
    return base + end
