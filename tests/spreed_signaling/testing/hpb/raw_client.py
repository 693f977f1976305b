"""A client of raw JSON, so that the server is not tested with its own library."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect

from spreed_signaling.protocol.auth import InternalAuth, internal_token
from spreed_signaling.testing import SignalingServer
from spreed_signaling.testing.nextcloud import Member

Frame = dict[str, Any]

SECRET = "the-internal-secret"
TOKEN = "demoroom"


class RawClient:
    """Sends and receives frames, and remembers what it received."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.received: list[Frame] = []
        self.session_id = ""
        self.resume_id = ""
        self._last_id = 0

    async def send(self, kind: str, body: Any = None, **extra: Any) -> str:
        self._last_id += 1
        message_id = str(self._last_id)
        frame = {"id": message_id, "type": kind, **extra}
        if body is not None:
            frame[kind] = body
        await self.socket.send(json.dumps(frame))
        return message_id

    async def receive(self, timeout_s: float = 5.0) -> Frame:
        with anyio.fail_after(timeout_s):
            frame: Frame = json.loads(await self.socket.recv())
        self.received.append(frame)
        return frame

    async def until(
        self, wanted: Callable[[Frame], bool], timeout_s: float = 5.0
    ) -> Frame:
        with anyio.fail_after(timeout_s):
            while True:
                frame = await self.receive(timeout_s)
                if wanted(frame):
                    return frame

    async def kind(self, kind: str, timeout_s: float = 5.0) -> Frame:
        """Wait for a frame of one `kind_of`."""
        return await self.until(lambda frame: kind_of(frame) == kind, timeout_s)

    async def error(self, message_id: str | None, timeout_s: float = 5.0) -> str:
        frame = await self.until(
            lambda item: item["type"] == "error" and item.get("id") == message_id,
            timeout_s,
        )
        code: str = frame["error"]["code"]
        return code

    async def nothing_more(self) -> list[str]:
        """Return the kinds of what comes until the answer to a marker.

        The marker is an unknown request, refused at once: whatever the server had
        to say before has then been said.
        """
        marker = await self.send("transient", {"type": "marker", "key": "k"})
        kinds: list[str] = []
        while True:
            frame = await self.receive()
            if frame.get("id") == marker:
                return kinds
            kinds.append(kind_of(frame))

    async def close_code(self, timeout_s: float = 5.0) -> int | None:
        """Read to the end and return the close code."""
        with anyio.fail_after(timeout_s):
            with contextlib.suppress(Exception):
                while True:
                    self.received.append(json.loads(await self.socket.recv()))
        return self.socket.close_code

    # Whole steps.

    async def hello_internal(self, **changes: Any) -> Frame:
        auth = InternalAuth(secret=SECRET, backend_url=changes.pop("backend"))
        random = "0123456789abcdef" * 4
        secret = changes.pop("secret", SECRET)
        params = {
            "random": random,
            "token": internal_token(secret, random),
            "backend": auth.backend_url,
        }
        body = {
            "version": "1.0",
            "features": ["internal-incall"],
            "auth": {"type": "internal", "params": params},
        }
        merged = {**body, **changes}
        return await self.hello(
            {key: value for key, value in merged.items() if value is not None}
        )

    async def hello_member(self, member: Member) -> Frame:
        auth = member.auth.hello_auth().to_json()
        return await self.hello(
            {"version": "1.0", "features": ["chat-relay"], "auth": auth}
        )

    async def hello(self, body: Frame) -> Frame:
        message_id = await self.send("hello", body)
        frame = await self.until(lambda item: item.get("id") == message_id)
        if frame["type"] == "hello":
            self.session_id = frame["hello"]["sessionid"]
            self.resume_id = frame["hello"]["resumeid"]
        return frame

    async def join(self, member: Member | None = None, token: str = TOKEN) -> Frame:
        body = {"roomid": token}
        if member is not None:
            body["sessionid"] = member.nc_session_id
        message_id = await self.send("room", body)
        return await self.until(lambda item: item.get("id") == message_id)

    async def to_session(self, session_id: str, data: Frame) -> str:
        recipient = {"type": "session", "sessionid": session_id}
        return await self.send("message", {"recipient": recipient, "data": data})

    async def request_offer(self, session_id: str, **extra: Any) -> str:
        data = {"type": "requestoffer", "roomType": "video", **extra}
        return await self.to_session(session_id, data)


def kind_of(frame: Frame) -> str:
    """Return `event/room/join`, `message/offer`, `error/CODE` or the type."""
    if frame["type"] == "event":
        return f"event/{frame['event']['target']}/{frame['event']['type']}"
    if frame["type"] == "message":
        data = frame["message"]["data"]
        return f"message/{data.get('type') if isinstance(data, dict) else ''}"
    if frame["type"] == "error":
        return f"error/{frame['error']['code']}"
    kind: str = frame["type"]
    return kind


@contextlib.asynccontextmanager
async def raw_client(server: SignalingServer) -> AsyncIterator[RawClient]:
    """Connect without saying hello."""
    url = server.url.replace("http", "ws", 1) + "/spreed"
    async with connect(url, max_size=None, close_timeout=1) as socket:
        yield RawClient(socket)
