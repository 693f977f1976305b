# SPDX-License-Identifier: MIT
"""JSON objects as frozen classes that lose nothing.

A field is `None` when the key is absent. A key that is unknown, null, or holds
a value of an unexpected type is kept in `extra`, so that `to_json` gives back
what came in: servers add fields, and one odd value must never cost the rest.
A list with odd entries is read without them, and kept whole in `extra`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs
from attrs import field, fields, frozen

__all__ = ["Model", "json_field"]

_MISSING = object()


@frozen(kw_only=True)
class _Kind:
    """How one JSON value becomes a field and back."""

    name: str
    parse: Callable[[Any], Any]
    """Returns the field's value, or `_MISSING` if the type does not fit."""
    dump: Callable[[Any], Any] = lambda value: value
    complete: Callable[[Any, Any], bool] = lambda value, raw: True
    """Whether the field's value holds all of the JSON value."""


def _same_length(value: Any, raw: Any) -> bool:
    return len(value) == len(raw)


def _exactly(name: str, *types: type) -> _Kind:
    return _Kind(
        name=name,
        # bool is an int in Python but not in JSON.
        parse=lambda value: value if type(value) in types else _MISSING,
    )


def _parse_strings(value: Any) -> Any:
    if not isinstance(value, list):
        return _MISSING
    return tuple(item for item in value if isinstance(item, str))


_KINDS = {
    "str": _exactly("str", str),
    "int": _exactly("int", int),
    "bool": _exactly("bool", bool),
    "object": _exactly("object", dict),
    "any": _Kind(name="any", parse=lambda value: value),
    "strings": _Kind(
        name="strings", parse=_parse_strings, dump=list, complete=_same_length
    ),
}


def _model(kind: type[Model]) -> _Kind:
    return _Kind(
        name=kind.__name__,
        parse=lambda value: (
            kind.from_json(value) if isinstance(value, dict) else _MISSING
        ),
        dump=lambda value: value.to_json(),
    )


def _models(kind: type[Model]) -> _Kind:
    def parse(value: Any) -> Any:
        if not isinstance(value, list):
            return _MISSING
        return tuple(kind.from_json(item) for item in value if isinstance(item, dict))

    return _Kind(
        name=kind.__name__,
        parse=parse,
        dump=lambda value: [item.to_json() for item in value],
        complete=_same_length,
    )


def json_field(
    kind: str | type[Model],
    key: str,
    *,
    many: bool = False,
    secret: bool = False,
) -> Any:
    """Declare a field read from `key`.

    Args:
        kind: One of `str int bool object any strings`, or a `Model` class.
        key: The JSON key.
        many: A list of that `Model`.
        secret: Keep the value out of `repr` (secrets, names and speech).
    """
    if isinstance(kind, str):
        codec = _KINDS[kind]
    else:
        codec = _models(kind) if many else _model(kind)
    return field(default=None, repr=not secret, metadata={"key": key, "kind": codec})


@frozen(kw_only=True)
class Model:
    """Base of every JSON object with known keys."""

    extra: Mapping[str, Any] = field(factory=dict, repr=False)
    """What is not covered by the fields, as it came."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read an object; never raises for odd content."""
        extra = dict(data)
        values: dict[str, Any] = {}
        for attribute in fields(cls):
            if "key" not in attribute.metadata:
                continue
            key = attribute.metadata["key"]
            if data.get(key) is None:
                continue
            kind: _Kind = attribute.metadata["kind"]
            value = kind.parse(data[key])
            if value is _MISSING:
                continue
            values[attribute.name] = value
            if kind.complete(value, data[key]):
                del extra[key]
        return cls(extra=extra, **values)

    def to_json(self) -> dict[str, Any]:
        """Return the object, equal to what `from_json` was given."""
        data: dict[str, Any] = {}
        for attribute in attrs.fields(type(self)):
            if "key" not in attribute.metadata:
                continue
            value = getattr(self, attribute.name)
            if value is not None:
                data[attribute.metadata["key"]] = attribute.metadata["kind"].dump(value)
        data.update(self.extra)
        return data
