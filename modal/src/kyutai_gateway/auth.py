# SPDX-License-Identifier: MIT
"""Who may use the gateway: a key and its secret, a bearer token, or anybody.

The header pair is that of Modal's proxy (`Modal-Key`, `Modal-Secret`), so a client
needs no other settings for a gateway hosted elsewhere. As there, the pair may also
come as `Authorization: Bearer key.secret`.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Literal

from attrs import field, frozen

__all__ = ["Credentials"]

Headers = Iterable[tuple[bytes, bytes]]

SCHEME = b"bearer "


@frozen(kw_only=True)
class Credentials:
    """What a client must show; never part of a `repr`.

    Raises:
        ValueError: If what the mode needs is empty.
    """

    mode: Literal["pair", "bearer", "none"] = "pair"
    """`pair` for key and secret, `bearer` for a token, `none` where something in
    front of the gateway checks, or nobody shall."""
    key: str = field(default="", repr=False)
    """For `pair`."""
    secret: str = field(default="", repr=False)
    """For `pair`."""
    bearer: str = field(default="", repr=False)
    """For `bearer`."""

    def __attrs_post_init__(self) -> None:
        if self.mode == "pair" and not (self.key and self.secret):
            raise ValueError("auth `pair` needs a key and a secret")
        if self.mode == "bearer" and not self.bearer:
            raise ValueError("auth `bearer` needs a token")

    def admit(self, headers: Headers) -> bool:
        """Whether a request may pass; takes as long whatever is wrong.

        Args:
            headers: Of ASGI: names in lower case.
        """
        if self.mode == "none":
            return True
        given = _given(headers)
        if given is None:
            return False
        if self.mode == "bearer":
            return _same(given.get("authorization"), self.bearer)
        as_pair = _same(given.get("modal-key"), self.key) & _same(
            given.get("modal-secret"), self.secret
        )
        joined = f"{self.key}.{self.secret}"
        return as_pair | _same(given.get("authorization"), joined)


def _given(headers: Headers) -> dict[str, bytes] | None:
    """The headers that matter; None where one comes twice and could be either."""
    given: dict[str, bytes] = {}
    for raw_name, raw_value in headers:
        name = bytes(raw_name).lower().decode("latin-1")
        value = bytes(raw_value)
        if name == "authorization":
            if value[: len(SCHEME)].lower() != SCHEME:
                continue
            value = value[len(SCHEME) :].strip()
        elif name not in ("modal-key", "modal-secret"):
            continue
        if name in given:
            return None
        given[name] = value
    return given


def _same(given: bytes | None, expected: str) -> bool:
    same = hmac.compare_digest(given or b"", expected.encode())
    return same and given is not None
