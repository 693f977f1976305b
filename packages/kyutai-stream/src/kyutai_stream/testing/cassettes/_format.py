# SPDX-License-Identifier: MIT
r"""The file format: JSON Lines, a header and then one line for each message.

```json
{"cassette": 1, "server": "wss://host/v1/stream", "recorded": "2026-11-22T20:00:00Z",
 "audio": "digest", "note": "...", "redaction": "..."}
{"t": 0.012, "dir": "server", "kind": "text", "text": "{\"type\": \"ready\"}"}
{"t": 0.093, "dir": "client", "kind": "binary", "size": 7680, "sha256": "..."}
{"t": 0.094, "dir": "client", "kind": "binary", "size": 0, "data": ""}
{"t": 9.120, "dir": "server", "kind": "close", "code": 1000, "reason": ""}
{"t": 0.020, "dir": "server", "kind": "refused", "status": 429,
 "headers": {"retry-after": "7"}}
```

`t` is seconds since the handshake began. `data` is base64. Readers ignore fields
and kinds they do not know and refuse other versions. One file is one connection.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from attrs import Factory, field, frozen

__all__ = ["VERSION", "Cassette", "CassetteError", "Direction", "Entry", "Header"]

VERSION = 1

Direction = Literal["client", "server"]
KINDS = ("text", "binary", "close", "refused")


class CassetteError(ValueError):
    """A file is no cassette, or one of another version."""


@frozen(kw_only=True)
class Header:
    """What was recorded, and what was left out."""

    server: str
    """Address of the server, without credentials and query."""
    recorded: str = ""
    """When, ISO 8601, UTC."""
    audio: Literal["digest", "full"] = "digest"
    """Whether the client's binary messages are there in full."""
    note: str = ""
    """What it shows, in the words of whoever recorded it."""
    redaction: str = ""
    """What was left out, and what was not."""

    def to_json(self) -> str:
        """Return the first line of the file."""
        fields = {
            "cassette": VERSION,
            "server": self.server,
            "recorded": self.recorded,
            "audio": self.audio,
            "note": self.note,
            "redaction": self.redaction,
        }
        return json.dumps(fields, ensure_ascii=False)


@frozen(kw_only=True)
class Entry:
    """One message, close or refusal."""

    t: float
    """Seconds since the handshake began."""
    dir: Direction
    """Who sent it."""
    kind: str
    """`text`, `binary`, `close` or `refused`."""
    text: str = field(default="", repr=False)
    """Content of a text message."""
    data: bytes | None = field(default=None, repr=False)
    """Content of a binary message; None where only its digest was kept."""
    size: int = 0
    """Bytes of a binary message."""
    sha256: str = ""
    """Hexadecimal digest of a binary message whose content was not kept."""
    code: int = 1005
    """Close code; 1005 for none, 1006 for an end without a close frame."""
    reason: str = field(default="", repr=False)
    """Close reason."""
    status: int = 0
    """HTTP status of a refusal."""
    headers: dict[str, str] = Factory(dict)
    """Headers of a refusal that a client may act upon."""

    @classmethod
    def message(
        cls, t: float, direction: Direction, message: str | bytes, *, keep: bool
    ) -> Self:
        """Describe a message; `keep` says whether binary content is kept."""
        if isinstance(message, str):
            return cls(t=t, dir=direction, kind="text", text=message)
        if keep:
            size = len(message)
            return cls(t=t, dir=direction, kind="binary", data=message, size=size)
        return cls(
            t=t,
            dir=direction,
            kind="binary",
            size=len(message),
            sha256=hashlib.sha256(message).hexdigest(),
        )

    def matches(self, message: str | bytes) -> bool:
        """Whether a message says the same; JSON is compared as JSON."""
        if isinstance(message, str):
            said = _json(message)
            same = said is not None and said == _json(self.text)
            return self.kind == "text" and (same or self.text == message)
        if self.kind != "binary" or self.size != len(message):
            return False
        if self.data is not None:
            return self.data == message
        return self.sha256 == hashlib.sha256(message).hexdigest()

    def to_json(self) -> str:
        """Return its line of the file."""
        fields: dict[str, Any] = {
            "t": round(self.t, 4),
            "dir": self.dir,
            "kind": self.kind,
        }
        if self.kind == "text":
            fields["text"] = self.text
        elif self.kind == "binary":
            fields["size"] = self.size
            if self.data is None:
                fields["sha256"] = self.sha256
            else:
                fields["data"] = base64.b64encode(self.data).decode()
        elif self.kind == "close":
            fields |= {"code": self.code, "reason": self.reason}
        else:
            fields |= {"status": self.status, "headers": self.headers}
        return json.dumps(fields, ensure_ascii=False)


@frozen(kw_only=True)
class Cassette:
    """A recorded connection."""

    header: Header
    """What it is."""
    entries: tuple[Entry, ...]
    """What happened, in order."""

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a file.

        Raises:
            CassetteError: If it is no cassette of this version.
            OSError: If it cannot be read.
        """
        try:
            # Not splitlines(): what people say may hold other line separators.
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as exc:
            raise CassetteError(f"{path} is no text") from exc
        return cls.parse(lines)

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Self:
        """Read lines.

        Raises:
            CassetteError: If they are no cassette of this version; names the line.
        """
        objects = [
            (number, _object(number, line))
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
        if not objects or "cassette" not in objects[0][1]:
            raise CassetteError("line 1: no header of a cassette")
        header = _header(objects[0][1])
        entries = (_entry(number, fields) for number, fields in objects[1:])
        return cls(
            header=header,
            entries=tuple(entry for entry in entries if entry is not None),
        )

    def save(self, path: Path | str) -> None:
        """Write a file."""
        lines = [self.header.to_json(), *(entry.to_json() for entry in self.entries)]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object(number: int, line: str) -> dict[str, Any]:
    fields = _json(line)
    if not isinstance(fields, dict):
        raise CassetteError(f"line {number}: no JSON object")
    return fields


def _header(fields: dict[str, Any]) -> Header:
    if fields["cassette"] != VERSION:
        raise CassetteError(f"line 1: version {VERSION} is needed")
    if fields.get("audio", "digest") not in ("digest", "full"):
        raise CassetteError("line 1: audio is neither digest nor full")
    texts = {
        name: _typed(1, fields, name, str, "")
        for name in ("server", "recorded", "note", "redaction")
    }
    return Header(**texts, audio=fields.get("audio", "digest"))


def _entry(number: int, fields: dict[str, Any]) -> Entry | None:
    kind = _typed(number, fields, "kind", str, "")
    if kind not in KINDS:
        return None
    if fields.get("dir") not in ("client", "server"):
        raise CassetteError(f"line {number}: dir is neither client nor server")
    data = _data(number, fields)
    headers = _typed(number, fields, "headers", dict, {})
    return Entry(
        t=float(_typed(number, fields, "t", (int, float), 0.0)),
        dir=fields["dir"],
        kind=kind,
        text=_typed(number, fields, "text", str, ""),
        data=data,
        size=_typed(number, fields, "size", int, 0) if data is None else len(data),
        sha256=_typed(number, fields, "sha256", str, ""),
        code=_typed(number, fields, "code", int, 1005),
        reason=_typed(number, fields, "reason", str, ""),
        status=_typed(number, fields, "status", int, 0),
        headers={str(name): str(value) for name, value in headers.items()},
    )


def _data(number: int, fields: dict[str, Any]) -> bytes | None:
    if "data" not in fields:
        return None
    try:
        text = _typed(number, fields, "data", str, "")
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise CassetteError(f"line {number}: data is no base64") from exc


def _typed(
    number: int,
    fields: dict[str, Any],
    name: str,
    kind: type | tuple[type, ...],
    default: Any,
) -> Any:
    value = fields.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CassetteError(f"line {number}: {name} has a wrong type")
    return value
