# SPDX-License-Identifier: AGPL-3.0-or-later
"""People in a call with the whole app: stand-in Nextcloud, signaling server, SFU."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
from anyio.abc import TaskGroup
from attrs import define, field

from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord
from live_transcription.notices import is_notice
from spreed_signaling import DataReceived, InCallFlags, Room, RoomJoined, connect
from spreed_signaling.media import AudioFile, Call
from spreed_signaling.testing import EmbeddedHpb, Member, StandInNextcloud, open_site
from spreed_signaling.testing._serve import bind_socket

from .talk import Talk

ROOM = "demoroom"
INTERNAL_SECRET = "the-internal-secret"
WORDS = ("one", "two", "three", "four", "five", "six")


def script(*words: str, every_s: float = 0.4) -> ConnectionScript:
    """These words, one after another, from 0.4 s of audio on."""
    spoken = [
        ScriptedWord(
            text=word, start=number * every_s, end=number * every_s + every_s / 2
        )
        for number, word in enumerate(words, start=1)
    ]
    return ConnectionScript(words=tuple(spoken))


def chatter(words: int = 100) -> ScriptedBackend:
    """A recogniser that hears `w0`, `w1` and so on."""
    return ScriptedBackend(script(*(f"w{number}" for number in range(words))))


@define
class Person:
    """Somebody in the room, with what she received."""

    member: Member
    session_id: str = ""
    room: Room | None = None
    captions: list[dict[str, Any]] = field(factory=list)
    rejoined: int = 0
    news: anyio.Event = field(factory=anyio.Event)

    def finals(self) -> list[str]:
        return [one["message"] for one in self.captions if one["final"]]

    def said(self) -> list[str]:
        finals = [text for text in self.finals() if not is_notice(text)]
        return " ".join(finals).split()

    async def until(self, condition: Callable[[], bool], limit_s: float = 80) -> None:
        # Now and then a talker's connection fails and is back after half a minute. Why
        # is not known; perhaps by network interfaces that tests beside this one remove.
        with anyio.fail_after(limit_s):
            while not condition():
                await self.news.wait()


class Stage:
    """The people, the app and the servers of one test."""

    def __init__(
        self, nextcloud: StandInNextcloud, talk: Talk, stack: AsyncExitStack, path: Path
    ) -> None:
        self.nextcloud = nextcloud
        self.app = talk
        self._stack = stack
        self._tasks: Any = None
        self._path = path

    async def open(self) -> None:
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(lambda: self._tasks.cancel_scope.cancel())

    async def enter(self, user_id: str, *, talks: bool = False) -> Person:
        """Somebody joins the room and the call."""
        person = Person(self.nextcloud.add_member(ROOM, user_id, user_id.capitalize()))
        await self._tasks.start(self._be, person, talks)
        flags = InCallFlags.IN_CALL
        if talks:
            flags |= InCallFlags.WITH_AUDIO
        await self.nextcloud.join_call(person.member, flags)
        return person

    async def talk(self) -> tuple[Person, Person]:
        """Alice talks, and Bob has switched captions on."""
        alice, bob = await self.enter("alice", talks=True), await self.enter("bob")
        await self.press(bob)
        return alice, bob

    async def _be(self, person: Person, talks: bool, *, task_status: Any) -> None:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            client = await enter(connect(self.nextcloud.hpb_url, person.member.auth))
            events = stack.enter_context(client.subscribe())
            room = await enter(
                client.join(ROOM, nc_session_id=person.member.nc_session_id)
            )
            person.session_id = client.session_id or ""
            person.room = room
            if talks:
                call = await enter(Call(room))
                await call.publish(AudioFile(tone(self._path)))
            task_status.started()
            async for event in events:
                if isinstance(event, DataReceived) and is_caption(event.data):
                    person.captions.append(event.data)
                elif isinstance(event, RoomJoined):
                    person.rejoined += 1
                person.news.set()
                person.news = anyio.Event()

    async def press(self, person: Person, enable: bool = True, **more: Any) -> None:
        answer = await self.nextcloud.press_cc(person.member, enable, **more)
        assert answer.status_code == 200

    async def room(self) -> dict[str, Any] | None:
        """What the status says about the room."""
        rooms = (await self.app.status())["rooms"]
        return rooms[0] if rooms else None

    async def until(
        self, condition: Callable[[dict[str, Any] | None], bool], limit_s: float = 10
    ) -> dict[str, Any] | None:
        """Wait until the status of the room is as wanted."""
        with anyio.fail_after(limit_s):
            while True:
                room = await self.room()
                if condition(room):
                    return room
                # The status has no way to wait for it.
                await anyio.sleep(0.05)


def is_caption(data: Any) -> bool:
    return isinstance(data, dict) and data.get("type") == "transcript"


def in_call(room: dict[str, Any] | None) -> bool:
    return room is not None and room["state"] == "in call"


def tone(folder: Path, seconds: float = 30.0) -> Path:
    path = folder / "tone.wav"
    if not path.exists():
        t = np.arange(round(seconds * 24_000)) / 24_000
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24_000)
            wanted = 0.3 * np.sin(2 * np.pi * 300 * t) * 32767
            file.writeframes(wanted.astype("<i2").tobytes())
    return path


Open = Callable[..., AbstractAsyncContextManager[Stage]]


@asynccontextmanager
async def embedded_site() -> AsyncIterator[StandInNextcloud]:
    async with open_site("embedded") as site:
        yield site.nextcloud


class Switch:
    """A signaling server that can be started and stopped, always on one port."""

    def __init__(self, nextcloud: StandInNextcloud, tasks: TaskGroup) -> None:
        self._nextcloud = nextcloud
        self._tasks = tasks
        with bind_socket() as reserved:
            self._port: int = reserved.getsockname()[1]
        self._stop = self._stopped = anyio.Event()
        nextcloud.hpb_url = f"http://127.0.0.1:{self._port}"

    async def on(self, internal_secret: str = INTERNAL_SECRET) -> None:
        await self._tasks.start(self._run, internal_secret)

    async def off(self) -> None:
        self._stop.set()
        await self._stopped.wait()

    async def _run(self, internal_secret: str, *, task_status: Any) -> None:
        self._stop, self._stopped = anyio.Event(), anyio.Event()
        server = EmbeddedHpb(
            backend_url=self._nextcloud.url,
            backend_secret=self._nextcloud.backend_secret,
            internal_secret=internal_secret,
            port=self._port,
        )
        async with server:
            task_status.started()
            await self._stop.wait()
        self._stopped.set()


@asynccontextmanager
async def switchable(nextcloud: StandInNextcloud) -> AsyncIterator[Switch]:
    async with anyio.create_task_group() as tasks:
        yield Switch(nextcloud, tasks)
        tasks.cancel_scope.cancel()


async def press_alone(nextcloud: StandInNextcloud, member: Member) -> httpx.Response:
    """Press without being in the call, which the stand-in would check."""
    body = {
        "roomToken": ROOM,
        "ncSessionId": member.nc_session_id,
        "enable": True,
    }
    return await nextcloud.exapp_request("POST", "/api/v1/call/transcribe", json=body)
