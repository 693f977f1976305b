# SPDX-License-Identifier: MIT
"""The fields of a JSON object from a stranger: of the right type, or refused.

No error tells a value: it may be what somebody said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeGuard

from ...errors import ProtocolError

__all__ = [
    "Fields",
    "integer",
    "number",
    "numbers",
    "optional_integer",
    "optional_number",
    "read_object",
    "refuse",
    "text",
    "truth",
]

Fields = Mapping[str, Any]


def read_object(data: str) -> Fields:
    """Read one JSON object, and JSON as its specification has it: without NaN.

    Raises:
        ProtocolError: If it is none.
    """
    try:
        fields = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        # The chain would show the data, and with it perhaps what was said.
        raise ProtocolError(
            f"the gateway sent {len(data)} characters that are no JSON "
            f"({type(exc).__name__})"
        ) from None
    if not isinstance(fields, dict):
        raise ProtocolError("the gateway sent JSON that is no object")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def text(fields: Fields) -> str:
    """What was said, with whole characters only; empty if nothing is there."""
    value = fields.get("text", "")
    if not isinstance(value, str):
        refuse(fields.get("type", "text"), "text")
    # JSON may hold half a character, which nothing can encode any more.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def truth(fields: Fields, key: str) -> bool:
    """A truth value; False if nothing is there."""
    value = fields.get(key)
    if value is not None and not isinstance(value, bool):
        refuse(fields.get("type", "text"), key)
    return bool(value)


def integer(fields: Fields, key: str, default: int | None = None) -> int:
    """An integer of 64 bits; a truth value is none."""
    value = fields.get(key, default)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        refuse(fields["type"], key)
    return value


def optional_integer(fields: Fields, key: str) -> int | None:
    """The same, or None if nothing is there."""
    return None if fields.get(key) is None else integer(fields, key)


def number(fields: Fields, key: str, default: float | None = None) -> float:
    """A finite number."""
    value = fields.get(key, default)
    if not _is_number(value):
        refuse(fields["type"], key)
    return float(value)


def optional_number(fields: Fields, key: str) -> float | None:
    """The same, or None if nothing is there."""
    return None if fields.get(key) is None else number(fields, key)


def numbers(fields: Fields, key: str) -> tuple[float, ...]:
    """Finite numbers; none if nothing is there."""
    values = fields.get(key)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(map(_is_number, values)):
        refuse(fields["type"], key)
    return tuple(map(float, values))


def _is_number(value: Any) -> TypeGuard[float]:
    # A truth value is no number; 1e999 is infinite, a long integer no float.
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) is float and math.isfinite(value)


def refuse(kind: object, key: str) -> NoReturn:
    """Refuse a message for one of its fields.

    Raises:
        ProtocolError: Always.
    """
    raise ProtocolError(f"the gateway sent {str(kind)[:20]!r} with an odd {key!r}")
