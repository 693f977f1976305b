# SPDX-License-Identifier: MIT
"""Talk's captions button and language menu, as an ExApp sees them."""

from __future__ import annotations

from typing import Any

import httpx

from ._exapp import ExAppHost
from ._state import Member, Rooms

__all__ = ["TALK_TIMEOUT_S", "Captions"]

TALK_TIMEOUT_S = 3.0
"""Seconds in all that Talk gives an ExApp (AppAPI's `exAppRequest`)."""


class Captions:
    """What Talk asks of the ExApp, and what it keeps of the answer.

    Args:
        rooms: Who is in which call, and the language of each room.
        exapps: The way to the ExApp.
    """

    def __init__(self, rooms: Rooms, exapps: ExAppHost) -> None:
        self._rooms = rooms
        self._exapps = exapps

    async def press(
        self, member: Member, enable: bool, lang_id: str | None
    ) -> httpx.Response:
        """Press the button; see `StandInNextcloud.press_cc`."""
        if enable and not self._rooms.state(member).in_call:
            return httpx.Response(400, json={"error": "in-call"})
        body: dict[str, Any] = {
            "roomToken": member.room_token,
            "ncSessionId": member.nc_session_id,
            "enable": enable,
        }
        lang_id = lang_id or self._rooms.get(member.room_token).lang_id
        if enable and lang_id:
            body["langId"] = lang_id
        return await self._post("transcribe", member, body)

    async def set_language(self, member: Member, lang_id: str) -> httpx.Response:
        """Choose a language; see `StandInNextcloud.set_language`."""
        body = {"roomToken": member.room_token, "langId": lang_id}
        answer = await self._post("set-language", member, body)
        if answer.is_success or answer.status_code == 404:
            self._rooms.get(member.room_token).lang_id = lang_id
        return answer

    async def _post(
        self, action: str, member: Member, body: dict[str, Any]
    ) -> httpx.Response:
        return await self._exapps.request(
            "POST",
            f"/api/v1/call/{action}",
            user_id=member.user_id,
            json=body,
            timeout_s=TALK_TIMEOUT_S,
        )
