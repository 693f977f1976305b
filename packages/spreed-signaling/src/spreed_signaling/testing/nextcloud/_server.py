# SPDX-License-Identifier: MIT
"""`StandInNextcloud`: one object that plays Nextcloud, Talk and AppAPI."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import anyio
import httpx

from ...errors import UsageError
from ...http import RoomApi
from ...protocol.auth import TokenAuth
from ...types import InCallFlags
from .._serve import AppServer, local_client
from ._captions import TALK_TIMEOUT_S, Captions
from ._endpoints import BACKEND_PATH, PUBLIC_PATHS, Endpoints, TalkSettings
from ._exapp import ExApp, ExAppHost
from ._ocs import OcsRequest, make_app
from ._requests import ReceivedRequest, RequestLog
from ._state import DEFAULT_PERMISSIONS, Member, Rooms
from ._tokens import TokenSigner

__all__ = ["StandInNextcloud"]

_MAX_REQUESTS = 1000


class StandInNextcloud:
    """A Nextcloud with Talk and AppAPI, as far as a bot or an ExApp sees it.

        async with StandInNextcloud(backend_secret="backendsecret") as nc:
            async with EmbeddedHpb(backend_url=nc.url, ...) as hpb:
                nc.hpb_url = hpb.url
                nc.add_room("tok")
                alice = nc.add_member("tok", "alice", "Alice")

    It serves what the signaling server asks (checksums verified), what an ExApp
    calls, and does what Talk and AppAPI do towards both. It has no database, no
    browser pages and no brute-force protection. Entered and left in one task.

    Args:
        backend_secret: Secret shared with the signaling server.
        port: Port on 127.0.0.1; 0 lets the system choose. Bound at once, so `url`
            is known before entering.

    Raises:
        OSError: If the port is taken.
    """

    def __init__(self, *, backend_secret: str = "backendsecret", port: int = 0) -> None:
        self.backend_secret = backend_secret
        self.settings = TalkSettings()
        """What an administrator sets up; may be changed at any time."""
        self._log = RequestLog(_MAX_REQUESTS)
        self.requests = self._log.requests
        """The last 1000 requests received, oldest first."""
        self._client = local_client()
        self._rooms = Rooms()
        self._exapps = ExAppHost(self._client)
        self._captions = Captions(self._rooms, self._exapps)
        self._signer = TokenSigner()
        self._server = AppServer(self._app, port=port)
        self.url = self._server.url
        """Nextcloud's base URL, `http://127.0.0.1:PORT`."""
        self._endpoints = Endpoints(
            self._rooms,
            self._exapps,
            self.settings,
            self._signer,
            backend_secret=backend_secret,
            url=self.url,
        )
        self._asgi = make_app(
            self._endpoints.table(),
            public=PUBLIC_PATHS,
            exapp=lambda: self._exapps.app,
            known_user=lambda user_id: user_id in self._rooms.user_ids(),
            received=self._record,
        )

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        await self._asgi(scope, receive, send)

    async def __aenter__(self) -> StandInNextcloud:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            await self._client.aclose()
        return await self._server.__aexit__(exc_type, exc, traceback)

    def _record(self, request: OcsRequest) -> None:
        received = ReceivedRequest(
            method=request.method,
            path=request.path,
            summary=self._endpoints.summarise(request),
            body=request.body,
        )
        self._log.add(received)

    async def wait_for_request(
        self, wanted: Callable[[ReceivedRequest], bool], timeout_s: float = 5.0
    ) -> ReceivedRequest:
        """Return the first recorded request that `wanted` accepts, once there is one.

        Raises:
            TimeoutError: If none came within `timeout_s`.
        """
        with anyio.fail_after(timeout_s):
            return await self._log.wait_for(wanted)

    # Talk: rooms and calls.

    @property
    def hpb_url(self) -> str:
        """The signaling server's base URL; set it once that is known."""
        return self._endpoints.hpb_url

    @hpb_url.setter
    def hpb_url(self, url: str) -> None:
        self._endpoints.hpb_url = url

    @property
    def room_api(self) -> RoomApi:
        """The signaling server's room API, signed with the backend secret."""
        if not self.hpb_url:
            raise UsageError("set hpb_url to the signaling server's URL first")
        return RoomApi(self.hpb_url, self.url, self.backend_secret, client=self._client)

    def add_room(self, room_token: str, name: str = "Room") -> None:
        """Create a room; an existing one is renamed."""
        self._rooms.add(room_token, name)

    def add_member(
        self,
        room_token: str,
        user_id: str,
        display_name: str,
        *,
        permissions: tuple[str, ...] | None = DEFAULT_PERMISSIONS,
    ) -> Member:
        """Put a user into a room, or a guest if `user_id` is empty.

        Args:
            room_token: A room made by `add_room`.
            user_id: Nextcloud user id.
            display_name: Name to show.
            permissions: What the signaling server lets this member do; None as an
                old Talk that sends no permissions.

        Raises:
            UsageError: If there is no such room.
        """
        return self._rooms.add_member(
            room_token,
            user_id,
            display_name,
            auth_url=f"{self.url}/ocs/v2.php{BACKEND_PATH}",
            permissions=permissions,
        )

    def token_auth(self, member: Member) -> TokenAuth:
        """Return credentials for hello 2.0, valid for 60 s.

        Raises:
            UsageError: If the package `cryptography` is not installed.
        """
        token = self._signer.sign(self.url, member.user_id, member.display_name)
        return TokenAuth(url=member.auth.url, token=token)

    async def join_call(
        self,
        member: Member,
        flags: InCallFlags = InCallFlags.IN_CALL | InCallFlags.WITH_AUDIO,
    ) -> None:
        """Let a member join the call, or change how; tells the signaling server.

        Raises:
            RoomApiError: If the signaling server refuses or does not answer.
            UsageError: If `hpb_url` is not set.
        """
        api = self.room_api
        state = self._rooms.state(member)
        state.in_call = flags
        room = self._rooms.get(member.room_token)
        await api.in_call(
            room.token, flags, changed=[state.entry()], users=room.entries()
        )

    async def leave_call(self, member: Member) -> None:
        """Let a member leave the call but not the room.

        Raises:
            RoomApiError: If the signaling server refuses or does not answer.
            UsageError: If `hpb_url` is not set.
        """
        await self.join_call(member, InCallFlags.DISCONNECTED)

    async def end_call(self, room_token: str) -> None:
        """End the call for everybody.

        Raises:
            RoomApiError: If the signaling server refuses or does not answer.
            UsageError: If `hpb_url` is not set or there is no such room.
        """
        api = self.room_api
        for state in self._rooms.get(room_token).members.values():
            state.in_call = InCallFlags.DISCONNECTED
        await api.end_call(room_token)

    # AppAPI: the ExApp.

    @property
    def exapp(self) -> ExApp | None:
        """The registered ExApp with its flag and progress, None before that."""
        return self._exapps.app

    def register_exapp(
        self,
        *,
        url: str,
        secret: str,
        app_id: str = "live_transcription",
        version: str = "1.0.0",
    ) -> None:
        """Make an ExApp known; `deploy_exapp` then installs it.

        Args:
            url: Where it listens.
            secret: Its `APP_SECRET`.
            app_id: Its `APP_ID`.
            version: Its `APP_VERSION`.
        """
        self._exapps.register(
            ExApp(url=url, app_id=app_id, secret=secret, version=version)
        )

    async def deploy_exapp(self, timeout_s: float = 30.0) -> None:
        """Install and enable the ExApp: heartbeat, init, progress, enable.

        Enabling happens inside the ExApp's own report of 100 %, as in AppAPI.

        Args:
            timeout_s: Seconds for each step.

        Raises:
            ExAppFailed: If a step fails or takes too long.
            ExAppUnreachable: If it stops answering.
            UsageError: If no ExApp is registered.
        """
        await self._exapps.deploy(timeout_s)

    async def set_enabled(self, enabled: bool) -> None:
        """Enable or disable the ExApp, as an administrator.

        Raises:
            ExAppFailed: If it reports an error.
            ExAppUnreachable: If it does not answer.
            UsageError: If no ExApp is registered.
        """
        if enabled:
            await self._exapps.heartbeat(TALK_TIMEOUT_S)
        await self._exapps.set_enabled(enabled)

    async def exapp_request(
        self,
        method: str,
        path: str,
        *,
        user_id: str = "",
        json: Any = None,
        timeout_s: float = TALK_TIMEOUT_S,
    ) -> httpx.Response:
        """Send a request to the ExApp as Talk does.

        Args:
            method: `GET` or `POST`.
            path: Route of the ExApp.
            user_id: In whose name; empty for guests.
            json: Body of a POST (a JSON object), or query of a GET.
            timeout_s: Seconds for the whole request.

        Returns:
            The answer, whatever its status.

        Raises:
            ExAppUnreachable: If there is none in time.
            UsageError: If no ExApp is registered.
        """
        return await self._exapps.request(
            method, path, user_id=user_id, json=json, timeout_s=timeout_s
        )

    async def press_cc(
        self, member: Member, enable: bool = True, lang_id: str | None = None
    ) -> httpx.Response:
        """Press the captions button as a member.

        Args:
            member: Whose button; must be in the call, as Talk checks first.
            enable: Whether captions are switched on or off.
            lang_id: Language of the room; the one of `set_language` if not given.

        Returns:
            The ExApp's answer, or Talk's own 400 `in-call` without asking it.

        Raises:
            ExAppUnreachable: If the ExApp does not answer within 3 s.
            UsageError: If no ExApp is registered.
        """
        return await self._captions.press(member, enable, lang_id)

    async def set_language(self, member: Member, lang_id: str) -> httpx.Response:
        """Choose the room's language for captions as a moderator.

        Talk stores it if the ExApp agrees, or answers 404 (no captions running).

        Raises:
            ExAppUnreachable: If the ExApp does not answer within 3 s.
            UsageError: If no ExApp is registered.
        """
        return await self._captions.set_language(member, lang_id)
