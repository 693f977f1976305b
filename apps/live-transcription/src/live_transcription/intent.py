# SPDX-License-Identifier: AGPL-3.0-or-later
"""What a call needs to know to start: small enough to be sent elsewhere."""

from __future__ import annotations

import json
from typing import Any

from attrs import field, frozen

__all__ = ["CallIntent"]


@frozen(kw_only=True)
class CallIntent:
    """Captions are wanted in this room, by these readers, in this language."""

    room_token: str
    """Talk's conversation token."""
    readers: tuple[str, ...] = field(default=(), repr=False)
    """Nextcloud session ids of those who asked, oldest first, each once."""
    lang_id: str = "en"
    """ISO 639-1 code of what is spoken."""

    def to_json(self) -> str:
        """Return the intent as a JSON object."""
        return json.dumps(
            {
                "room_token": self.room_token,
                "readers": list(self.readers),
                "lang_id": self.lang_id,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> CallIntent:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is no intent. Unknown keys are ignored.
        """
        data: Any = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("an intent is a JSON object")
        room_token, lang_id = data.get("room_token"), data.get("lang_id")
        readers = data.get("readers")
        if not isinstance(room_token, str) or not room_token:
            raise ValueError("an intent needs a `room_token`")
        if not isinstance(lang_id, str) or not lang_id:
            raise ValueError("an intent needs a `lang_id`")
        if not isinstance(readers, list) or not all(
            isinstance(reader, str) for reader in readers
        ):
            raise ValueError("`readers` of an intent is a list of session ids")
        return cls(
            room_token=room_token,
            readers=tuple(dict.fromkeys(readers)),
            lang_id=lang_id,
        )
