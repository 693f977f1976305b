# SPDX-License-Identifier: MIT
"""A websocket server that plays the server's side of a cassette.

It follows the client, not the clock: what the server said after so many bytes and
text messages of the client comes again as soon as the client has sent as many.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from attrs import define, field
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from .._endings import end_socket
from ._format import Cassette, Entry
from ._refusals import CLOSE_TIMEOUT_S, MAX_MESSAGE, refusal, wants_websocket

__all__ = ["CassetteMismatch", "Player", "play"]

MISMATCHES = 100
"""Most that are kept."""


class CassetteMismatch(AssertionError):
    """A client did not say what the recorded one said; the text names where."""


@asynccontextmanager
async def play(
    *cassettes: Cassette | Path | str, strict: bool = False, port: int = 0
) -> AsyncGenerator[Player, None]:
    """Serve cassettes, one for each connection, in order.

    Args:
        cassettes: Cassettes or their files. Further connections are answered 503.
        strict: Whether differences are raised when the context is left; else they
            are only collected in `Player.mismatches`.
        port: Port to listen on; 0 for any free one.

    Yields:
        The server; its `url` is where the client connects to.

    Raises:
        CassetteError: If a file is no cassette.
        CassetteMismatch: On leaving, if `strict` and the client said something
            else, or less, than was recorded.
    """
    loaded = [one if isinstance(one, Cassette) else load(one) for one in cassettes]
    player = Player(loaded)
    server = await serve(
        player.handle,
        "127.0.0.1",
        port,
        process_request=player.admit,
        compression=None,
        max_size=MAX_MESSAGE,
        open_timeout=None,
        ping_interval=None,
        close_timeout=CLOSE_TIMEOUT_S,
    )
    player.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
    try:
        yield player
    finally:
        with anyio.CancelScope(shield=True):
            server.close()
            await server.wait_closed()
    if strict:
        player.check()


def load(path: Path | str) -> Cassette:
    """Read a cassette, outside of async functions."""
    return Cassette.load(path)


@define
class Player:
    """The server; made by `play`."""

    _cassettes: Sequence[Cassette] = field(repr=False)
    url: str = ""
    """Address for the client; any path is served."""
    mismatches: list[str] = field(factory=list)
    """What clients did differently; holds no speech."""
    connections: int = 0
    """Connections played so far, also refused ones."""
    _decks: dict[ServerConnection, _Deck] = field(factory=dict, repr=False)
    _all: list[_Deck] = field(factory=list, repr=False)

    def check(self) -> None:
        """Complain about mismatches and what was not played.

        Raises:
            CassetteMismatch: If there is anything to complain about.
        """
        problems = list(self.mismatches)
        missing = len(self._cassettes) - self.connections
        if missing > 0:
            problems.append(f"{missing} cassettes were not asked for")
        for deck in self._all:
            problems += deck.unplayed()
        if problems:
            raise CassetteMismatch("; ".join(problems))

    async def admit(
        self, socket: ServerConnection, request: Request
    ) -> Response | None:
        """Choose the next cassette, or refuse as was recorded."""
        if not wants_websocket(request):
            return refusal(426, {})
        number = self.connections
        self.connections += 1
        if number >= len(self._cassettes):
            self.mismatches.append(f"connection {number + 1}: no cassette for it")
            return refusal(503, {})
        entries = self._cassettes[number].entries
        for entry in entries:
            if entry.kind == "refused":
                return refusal(entry.status, entry.headers)
        deck = _Deck(number=number + 1, entries=entries)
        self._all.append(deck)
        self._decks[socket] = deck
        return None

    async def handle(self, socket: ServerConnection) -> None:
        """Play one cassette."""
        deck = self._decks.pop(socket)
        with suppress(ConnectionClosed):
            while await _say(socket, deck.due()):
                difference = deck.take(await socket.recv())
                if difference is not None and len(self.mismatches) < MISMATCHES:
                    self.mismatches.append(difference)


@define
class _Deck:
    """How far one connection has come; pure."""

    number: int
    entries: Sequence[Entry]
    _at: int = 0
    # What the client had sent at this place of the recording, and has sent now.
    _before: tuple[int, int] = (0, 0)
    _bytes: int = 0
    _texts: int = 0
    _heard: int = 0
    _said: list[Entry] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._said = [
            entry
            for entry in self.entries
            if entry.dir == "client" and entry.kind in ("text", "binary")
        ]

    def due(self) -> list[Entry]:
        """What the server says now."""
        due = []
        for entry in self.entries[self._at :]:
            size, texts = self._before
            if entry.dir == "client":
                if entry.kind == "close":
                    break
                self._before = (size + entry.size, texts + (entry.kind == "text"))
            elif size > self._bytes or texts > self._texts:
                break
            else:
                due.append(entry)
            self._at += 1
        return due

    def take(self, message: str | bytes) -> str | None:
        """Count a message of the client; describes how it differs."""
        if isinstance(message, str):
            self._texts += 1
        else:
            self._bytes += len(message)
        self._heard += 1
        where = f"connection {self.number}, client message {self._heard}"
        if self._heard > len(self._said):
            return f"{where}: nothing more was recorded"
        expected = self._said[self._heard - 1]
        if expected.matches(message):
            return None
        kind = "text" if isinstance(message, str) else "binary"
        wanted = f"{expected.kind} of {expected.size or len(expected.text)}"
        return f"{where}: {kind} of {len(message)} differs from the recorded {wanted}"

    def unplayed(self) -> list[str]:
        """What the client never made happen."""
        problems = []
        where = f"connection {self.number}"
        if self._heard < len(self._said):
            missing = len(self._said) - self._heard
            problems.append(f"{where}: {missing} messages of the client are missing")
        rest = self.entries[self._at :]
        closes = [n for n, one in enumerate(rest) if _client_close(one)]
        rest = rest[: closes[0]] if closes else rest
        behind = sum(entry.dir == "server" for entry in rest)
        if behind:
            problems.append(f"{where}: {behind} messages of the server not played")
        return problems


def _client_close(entry: Entry) -> bool:
    return entry.dir == "client" and entry.kind == "close"


async def _say(socket: ServerConnection, entries: Sequence[Entry]) -> bool:
    """Send what the server said; False when it ended the connection."""
    for entry in entries:
        if entry.kind == "close":
            await end_socket(socket, entry.code, entry.reason)
            return False
        await socket.send(entry.text if entry.kind == "text" else entry.data or b"")
    return True
