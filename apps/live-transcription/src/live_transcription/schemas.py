# SPDX-License-Identifier: AGPL-3.0-or-later
"""Bodies of the requests, as Talk's PHP code writes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["Leave", "SetLanguage", "SetTargetLanguage", "Transcribe"]

Id = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
"""An opaque id; Nextcloud's session ids have 255 characters."""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class Transcribe(_Body):
    """`POST /api/v1/call/transcribe`: captions on or off."""

    room_token: Id = Field(alias="roomToken")
    nc_session_id: Id = Field(alias="ncSessionId", repr=False)
    enable: bool = True
    lang_id: str | None = Field(default=None, alias="langId", max_length=64)


class SetLanguage(_Body):
    """`POST /api/v1/call/set-language`: the room's language."""

    room_token: Id = Field(alias="roomToken")
    lang_id: str = Field(alias="langId", max_length=64)


class SetTargetLanguage(_Body):
    """`POST /api/v1/translation/set-target-language`: one reader's translation."""

    room_token: Id = Field(alias="roomToken")
    nc_session_id: Id = Field(alias="ncSessionId", repr=False)
    lang_id: str | None = Field(alias="langId", max_length=64)


class Leave(_Body):
    """`POST /api/v1/call/leave`: end a room's captions."""

    room_token: Id = Field(alias="roomToken")
