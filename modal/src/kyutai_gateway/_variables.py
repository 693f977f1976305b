# SPDX-License-Identifier: MIT
"""Kinds of settings: read from a variable's text, checked, told in one line."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import attrs
from attrs import frozen

__all__ = [
    "PREFIX",
    "Kind",
    "SettingsError",
    "as_text",
    "choice",
    "folder_list",
    "host",
    "kind_of",
    "local_path",
    "number",
    "seconds",
    "setting",
    "text",
    "variable",
    "websocket_url",
    "whole",
]

PREFIX = "KYUTAI_GATEWAY_"
"""Every variable begins with it."""

OFF = "off"
"""Text of a time that never comes."""


class SettingsError(ValueError):
    """Settings cannot be used; says which, what they are and what is allowed.

    Values of secret settings are never part of it.
    """


@frozen(kw_only=True)
class Kind:
    """What values a setting may have."""

    allowed: str
    """In words, for messages and the documentation."""
    parse: Callable[[str], Any]
    """Text of a variable to a value; raises `ValueError` for no value at all."""
    valid: Callable[[Any], bool]
    """Whether a value is one of those allowed."""
    hint: Callable[[str], str] = lambda raw: ""
    """More about what is wrong with such a text."""


def variable(name: str) -> str:
    """Return the environment variable of a field."""
    return PREFIX + name.upper()


def setting(
    default: Any, kind: Kind, meaning: str, *, group: str, secret: bool = False
) -> Any:
    """Return an attrs field that is checked and documented.

    Args:
        default: Value where the variable is not set.
        kind: Which values are allowed; `default` need not be one of them.
        meaning: One sentence for the documentation.
        group: Heading in the documentation.
        secret: Kept out of `repr` and messages; may also come from a file.
    """

    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value != default and not kind.valid(value):
            raise SettingsError(complaint(attribute, value))

    return attrs.field(
        default=default,
        validator=check,
        repr=not secret,
        metadata={"kind": kind, "meaning": meaning, "group": group, "secret": secret},
    )


def kind_of(attribute: attrs.Attribute[Any]) -> Kind:
    """Return the kind of a field made by `setting`."""
    kind: Kind = attribute.metadata["kind"]
    return kind


def complaint(attribute: attrs.Attribute[Any], value: object) -> str:
    """Say what is wrong with a value, in one line."""
    # An address with "@" has a password in it.
    hidden = attribute.metadata["secret"] or "@" in str(value).partition("://")[2]
    shown = "a value that is not shown" if hidden else repr(value)
    kind = kind_of(attribute)
    said = f"{variable(attribute.name)} is {shown}: must be {kind.allowed}"
    return said + kind.hint(str(value))


def as_text(value: object) -> str:
    """Return a value as it is written in a variable."""
    if isinstance(value, float):
        return OFF if math.isinf(value) else f"{value:g}"
    if isinstance(value, tuple):
        return ":".join(str(part) for part in value)
    return "" if value is None else str(value)


def text(allowed: str) -> Kind:
    """Any text of one line."""
    return Kind(
        allowed=allowed,
        parse=str,
        valid=lambda value: isinstance(value, str) and value.isprintable(),
    )


def host() -> Kind:
    """A name or number to listen on."""

    def valid(value: Any) -> bool:
        if not isinstance(value, str) or not value:
            return False
        try:
            ipaddress.ip_address(value)
        except ValueError:
            return value.replace("-", "").replace(".", "").isalnum()
        return True

    allowed = "an IP address or a host name such as `127.0.0.1`"
    return Kind(allowed=allowed, parse=str, valid=valid)


def choice(*values: str) -> Kind:
    """One of some words."""
    listed = ", ".join(f"`{value}`" for value in values)
    return Kind(
        allowed=f"one of {listed}", parse=str.lower, valid=lambda v: v in values
    )


def whole(low: int, high: int) -> Kind:
    """A whole number, both ends included."""

    def parse(raw: str) -> int:
        if not raw.isascii() or not raw.isdigit():
            raise ValueError(raw)
        return int(raw)

    return Kind(
        allowed=f"a whole number from {low} to {high}",
        parse=parse,
        valid=lambda value: type(value) is int and low <= value <= high,
    )


def number(low: float, high: float) -> Kind:
    """A number, both ends included."""
    return Kind(
        allowed=f"a number from {low:g} to {high:g}",
        parse=float,
        valid=lambda value: isinstance(value, float | int) and low <= value <= high,
    )


def seconds(low: float, high: float, *, off: bool = False) -> Kind:
    """A time; with `off` it may be infinite, written `off`."""
    allowed = f"seconds, from {low:g} to {high:g}" + (", or `off`" if off else "")

    def parse(raw: str) -> float:
        return math.inf if off and raw.lower() == OFF else float(raw)

    def valid(value: Any) -> bool:
        if not isinstance(value, float | int):
            return False
        return low <= value <= high or (off and value == math.inf)

    return Kind(allowed=allowed, parse=parse, valid=valid)


def local_path(what: Literal["file", "folder"]) -> Kind:
    """The full path of a file or folder of this machine."""

    def hint(raw: str) -> str:
        if raw.startswith("hf:"):
            return " (nothing is downloaded at start: fetch the weights beforehand)"
        return " (moshi-server would expand the `$`)" if "$" in raw else ""

    return Kind(
        allowed=f"the full path of a local {what}",
        parse=lambda raw: None if "://" in raw else Path(raw),
        valid=lambda value: isinstance(value, Path) and _plain(value),
        hint=hint,
    )


def folder_list() -> Kind:
    """Full paths with colons between, as in PATH."""

    def parse(raw: str) -> tuple[Path, ...]:
        return tuple(Path(part) for part in raw.split(":") if part)

    return Kind(
        allowed="full paths of folders, with colons between",
        parse=parse,
        valid=lambda value: isinstance(value, tuple) and all(map(_plain, value)),
    )


def websocket_url() -> Kind:
    """The address of a server."""

    def valid(value: Any) -> bool:
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("ws", "wss") and bool(parts.hostname)
            return good and parts.port != 0 and not parts.username
        except (ValueError, TypeError, AttributeError):
            return False

    return Kind(
        allowed="an address such as `ws://10.0.0.5:8080`, without credentials",
        parse=str,
        valid=valid,
    )


def _plain(path: Path) -> bool:
    written = str(path)
    return path.is_absolute() and "$" not in written and written.isprintable()
