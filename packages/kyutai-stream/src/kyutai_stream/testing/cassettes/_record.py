# SPDX-License-Identifier: MIT
"""A proxy between any websocket client and a real server that writes a cassette."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import anyio
from attrs import define, field
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
)
from websockets.http11 import Request, Response

from .._endings import Socket, end_socket
from ._format import Direction, Header
from ._refusals import CLOSE_TIMEOUT_S, MAX_MESSAGE, refusal, wants_websocket
from ._tape import Tape

__all__ = ["Recorder", "record"]

OPEN_TIMEOUT_S = 200.0

# Of the client's handshake; everything else goes on to the server.
OWN_HEADERS = {
    "connection",
    "content-length",
    "host",
    "origin",
    "upgrade",
    "user-agent",
}
TOLD_HEADERS = ("retry-after",)
NOWHERE = "https://redacted.invalid/"

REDACTION = (
    "Request headers, credentials and the query of the address were never written."
    " What the server said (transcripts, times) is complete."
)
WITHOUT_AUDIO = " Client audio: SHA-256 and length only."
WITH_AUDIO = " Client audio is COMPLETE: treat the file as a voice recording."


@asynccontextmanager
async def record(
    upstream: str,
    path: Path | str,
    *,
    audio: Literal["digest", "full"] = "digest",
    note: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncGenerator[Recorder, None]:
    """Listen, pass everything on to a server, and write down what is said.

    The client's headers (credentials too) and the query of its address go on to
    the server and are never written. Refusals before the upgrade are recorded and
    passed back. Each connection gets a file: `out.jsonl`, `out-2.jsonl`, ...

    Args:
        upstream: Address of the server, `ws://` or `wss://`.
        path: File to write; an existing one is overwritten.
        audio: `digest` keeps the client's audio out of the file.
        note: What the recording shows.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.

    Yields:
        The proxy; its `url` is where the client connects to.
    """
    recorder = Recorder(
        upstream=upstream, path=Path(path), keep_audio=audio == "full", note=note
    )
    server = await serve(
        recorder.handle,
        host,
        port,
        process_request=recorder.dial,
        compression=None,
        max_size=MAX_MESSAGE,
        open_timeout=None,
        ping_interval=None,
        close_timeout=CLOSE_TIMEOUT_S,
    )
    recorder.url = _url(server, host, upstream)
    try:
        yield recorder
    finally:
        with anyio.CancelScope(shield=True):
            await recorder.stop_writing()
            server.close()
            await recorder.hang_up()
            await server.wait_closed()


@define
class Recorder:
    """The proxy; made by `record`."""

    upstream: str = field(repr=False)
    """Address of the server."""
    path: Path
    """File of the first connection."""
    keep_audio: bool
    """Whether the client's audio is written."""
    note: str = ""
    """What the recording shows."""
    url: str = ""
    """Address for the client."""
    files: list[Path] = field(factory=list)
    """Files written, one for each connection, also refused ones."""
    _dialled: dict[ServerConnection, tuple[ClientConnection, Tape]] = field(
        factory=dict, repr=False
    )

    async def dial(self, client: ServerConnection, request: Request) -> Response | None:
        """Connect to the server before the client is let in."""
        if not wants_websocket(request):
            return refusal(426, {})
        tape = self._tape()
        query = urlsplit(request.path).query
        try:
            server = await connect(
                _with_query(self.upstream, query),
                additional_headers=_forwarded(request.headers),
                compression=None,
                max_size=MAX_MESSAGE,
                open_timeout=OPEN_TIMEOUT_S,
                ping_interval=None,
                close_timeout=CLOSE_TIMEOUT_S,
                user_agent_header=None,
            )
        except InvalidStatus as exc:
            told = exc.response.headers
            headers = {n: told[n] for n in TOLD_HEADERS if n in told}
            return _refused(tape, exc.response.status_code, headers)
        except InvalidURI:
            # The library follows redirects, and those of Modal lead to https.
            return _refused(tape, 303, {"location": NOWHERE})
        except (OSError, TimeoutError, InvalidHandshake):
            return _refused(tape, 502, {})
        self._dialled[client] = (server, tape)
        return None

    async def handle(self, client: ServerConnection) -> None:
        """Pass messages on in both directions until one side ends it."""
        server, tape = self._dialled[client]
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_carry, client, server, "client", tape)
                await _carry(server, client, "server", tape)
                tasks.cancel_scope.cancel()
        finally:
            tape.close()
            del self._dialled[client]

    async def stop_writing(self) -> None:
        """Close the files; what follows is our own goodbye."""
        dialled = list(self._dialled.items())
        with anyio.move_on_after(CLOSE_TIMEOUT_S):
            for client, (_, tape) in dialled:
                # An end that came before this moment is still worth a line.
                if client.close_code is not None:
                    await tape.closed.wait()
        for _, (_, tape) in dialled:
            tape.close()

    async def hang_up(self) -> None:
        """Close what is still connected to the server."""
        for server, _ in list(self._dialled.values()):
            await server.close()

    def _tape(self) -> Tape:
        number = len(self.files) + 1
        name = f"{self.path.stem}-{number}{self.path.suffix}"
        path = self.path if number == 1 else self.path.with_name(name)
        self.files.append(path)
        header = Header(
            server=_public(self.upstream),
            recorded=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            audio="full" if self.keep_audio else "digest",
            note=self.note,
            redaction=REDACTION + (WITH_AUDIO if self.keep_audio else WITHOUT_AUDIO),
        )
        return Tape.open(path, header, keep_audio=self.keep_audio)


def _refused(tape: Tape, status: int, headers: dict[str, str]) -> Response:
    tape.refusal(status, headers)
    tape.close()
    return refusal(status, headers)


async def _carry(
    source: Socket, target: Socket, direction: Direction, tape: Tape
) -> None:
    """Pass messages on until the source has ended; then end the target likewise."""
    try:
        while True:
            message = await source.recv()
            tape.message(direction, message)
            with suppress(ConnectionClosed):
                await target.send(message)
    except ConnectionClosed:
        code = 1006 if source.close_code is None else source.close_code
    tape.end(direction, code, source.close_reason or "")
    if target.close_code is None:
        await end_socket(target, code, source.close_reason or "")


def _forwarded(headers: Headers) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in headers.raw_items()
        if name.lower() not in OWN_HEADERS
        and not name.lower().startswith("sec-websocket-")
    ]


def _with_query(address: str, query: str) -> str:
    """The server's address with the client's query, if it has one."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(query=query)) if query else address


def _public(address: str) -> str:
    """An address without credentials, query and fragment."""
    parts = urlsplit(address)
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def _url(server: Server, host: str, upstream: str) -> str:
    port = next(iter(server.sockets)).getsockname()[1]
    return f"ws://{host}:{port}{urlsplit(upstream).path}"
