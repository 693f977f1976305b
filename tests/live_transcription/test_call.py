# SPDX-License-Identifier: AGPL-3.0-or-later
"""The whole app in a call: who gets captions, from the first word to the last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from kyutai_stream import AuthError, Connection, ConnectRequest
from kyutai_stream.testing import ConnectionScript, ScriptedBackend
from live_transcription.notices import is_notice
from spreed_signaling.testing import Site

from .scene import ROOM, WORDS, Open, chatter, embedded_site, in_call, script


async def test_who_asks_gets_captions(site: Site, stage: Open) -> None:
    backend = ScriptedBackend(script(*WORDS))
    async with stage(site.nextcloud, backend) as scene:
        alice = await scene.enter("alice", talks=True)
        bob, carol = await scene.enter("bob"), await scene.enter("carol")
        # Twice is once, and nobody gets her own words.
        for person in (bob, bob, alice):
            await scene.press(person, lang_id="fr")
        await bob.until(lambda: bob.said() == list(WORDS))
        room = await scene.until(in_call)
        assert room is not None
        assert room["readers"] == {"receiving": 2, "waiting": 0}
        assert room["captions_sent"] == len(bob.captions)
        (speaker,) = room["speakers"]
        assert (speaker["state"], speaker["backend"]) == ("ready", "scripted")
    assert alice.captions == carol.captions == []
    for caption in bob.captions:
        assert caption["speakerSessionId"] == alice.session_id
        assert caption["langId"] == "fr"
    partials = [one["message"] for one in bob.captions if not one["final"]]
    assert partials
    assert all(" ".join(WORDS).startswith(text) for text in partials)
    # After deployment no further word of the app is needed: it was enabled inside.
    assert site.nextcloud.exapp is not None and site.nextcloud.exapp.progress == 100


async def test_activity_is_the_honest_default(stage: Open) -> None:
    async with embedded_site() as nextcloud, stage(nextcloud) as scene:
        _, bob = await scene.talk()
        await bob.until(lambda: bool(bob.captions))
        assert "no speech recogniser" in bob.captions[0]["message"]


class SleepingBackend(ScriptedBackend):
    """A recogniser that takes nobody until it is woken."""

    def __init__(self, *scripts: ConnectionScript) -> None:
        super().__init__(*scripts)
        self.awake = anyio.Event()

    @asynccontextmanager
    async def connect(self, request: ConnectRequest) -> AsyncIterator[Connection]:
        await self.awake.wait()
        async with super().connect(request) as connection:
            yield connection


async def test_a_reader_is_told_that_words_come_late(stage: Open) -> None:
    backend = SleepingBackend(script(*WORDS))
    async with embedded_site() as nextcloud, stage(nextcloud, backend) as scene:
        _, bob = await scene.talk()
        await bob.until(lambda: bool(bob.captions))
        assert bob.finals() == ["…"]
        backend.awake.set()
        await bob.until(lambda: bob.said() == list(WORDS))
        assert [text for text in bob.finals() if is_notice(text)] == ["…"]


async def test_an_encrypted_call_gets_no_invented_captions(stage: Open) -> None:
    backend = chatter()
    async with embedded_site() as nextcloud, stage(nextcloud, backend) as scene:
        alice, bob = await scene.talk()
        await bob.until(lambda: bool(bob.captions))
        assert alice.room is not None
        (bot,) = (one for one in alice.room.participants.values() if one.internal)
        start = {"id": "1", "type": "encryption.start"}
        alice.room.send_data(bot.session_id, {"type": "message", "payload": start})
        room = await scene.until(lambda room: bool(room and room["state"] != "in call"))
        assert room is not None
        assert room["state"] == "encrypted"
        assert "end-to-end" in room["detail"]
        # No more audio goes to the recogniser; what was under way ends.
        await bob.until(lambda: bool(bob.captions[-1]["final"]))
        had = len(bob.captions)
        with anyio.move_on_after(1.5):
            await bob.until(lambda: len(bob.captions) > had)
        assert len(bob.captions) == had


async def test_one_of_two_readers_switches_off(stage: Open) -> None:
    backend = chatter()
    async with embedded_site() as nextcloud, stage(nextcloud, backend) as scene:
        await scene.enter("alice", talks=True)
        bob, carol = await scene.enter("bob"), await scene.enter("carol")
        await scene.press(bob)
        await scene.press(carol)
        await bob.until(lambda: len(bob.captions) >= 2)
        await scene.press(bob, enable=False)
        # What was on its way when he switched off may still arrive.
        seen = len(carol.captions)
        await carol.until(lambda: len(carol.captions) >= seen + 1)
        had, seen = len(bob.captions), len(carol.captions)
        await carol.until(lambda: len(carol.captions) >= seen + 3)
        assert len(bob.captions) == had


async def test_leaves_without_readers_and_comes_back_at_once(stage: Open) -> None:
    backend = chatter()
    async with (
        embedded_site() as nextcloud,
        stage(nextcloud, backend, leave_after_s=0.3) as scene,
    ):
        _, bob = await scene.talk()
        await bob.until(lambda: bool(bob.captions))
        await scene.press(bob, enable=False)
        await scene.until(lambda room: room is None)
        bob.captions.clear()
        await scene.press(bob)
        await bob.until(lambda: bool(bob.captions), limit_s=5)


async def test_the_end_of_the_call_brings_the_last_words(stage: Open) -> None:
    backend = chatter()
    async with embedded_site() as nextcloud, stage(nextcloud, backend) as scene:
        _, bob = await scene.talk()
        await bob.until(lambda: len(bob.captions) >= 3)
        await nextcloud.end_call(ROOM)
        await scene.until(lambda room: room is None)
        await bob.until(lambda: bob.captions[-1]["final"])
        shown = [one["message"].split()[-1] for one in bob.captions]
        assert set(shown) <= set(bob.said())


async def test_switching_the_app_off_brings_the_last_words(stage: Open) -> None:
    backend = chatter()
    async with embedded_site() as nextcloud, stage(nextcloud, backend) as scene:
        _, bob = await scene.talk()
        await bob.until(lambda: len(bob.captions) >= 3)
        with anyio.fail_after(10):
            await nextcloud.set_enabled(False)
        assert await scene.room() is None
        await bob.until(lambda: bob.captions[-1]["final"])


async def test_one_speakers_recogniser_fails_the_other_goes_on(stage: Open) -> None:
    backend = ScriptedBackend(
        ConnectionScript(refuse=AuthError("the key is not accepted")), script(*WORDS)
    )
    async with embedded_site() as nextcloud, stage(nextcloud, backend) as scene:
        reader = await scene.enter("bob")
        await scene.press(reader)
        alice = await scene.enter("alice", talks=True)
        failed = await scene.until(
            lambda room: bool(room and room["speakers"] and room["errors"])
        )
        assert failed is not None
        assert "the key is not accepted" in failed["speakers"][0]["last_error"]
        carol = await scene.enter("carol", talks=True)
        heard = {alice.session_id: "", carol.session_id: ""}

        def both() -> bool:
            for caption in reader.captions:
                if caption["final"]:
                    heard[caption["speakerSessionId"]] = caption["message"]
            return all(heard.values())

        # Also the one that failed is tried again.
        await reader.until(both, limit_s=40)


async def test_language_changes_without_losing_captions(stage: Open) -> None:
    backend = chatter()
    async with embedded_site() as nextcloud, stage(nextcloud, backend) as scene:
        _, bob = await scene.talk()
        await bob.until(lambda: len(bob.captions) >= 2)
        answer = await nextcloud.set_language(bob.member, "fr")
        assert answer.status_code == 200
        await bob.until(lambda: bob.captions[-1]["langId"] == "fr")
        languages = [one["langId"] for one in bob.captions]
        assert languages == sorted(languages)
        english = [one for one in bob.captions if one["langId"] == "en"]
        assert english[-1]["final"]
        assert [request.language for request in backend.requests] == ["en", "fr"]
