# SPDX-License-Identifier: AGPL-3.0-or-later
"""The whole app while the signaling server is away, refuses it or comes back."""

from __future__ import annotations

import logging
from itertools import pairwise

import anyio
import pytest

from kyutai_stream.testing import ScriptedBackend
from spreed_signaling import InCallFlags
from spreed_signaling.testing import StandInNextcloud

from .scene import ROOM, WORDS, Open, chatter, in_call, press_alone, script, switchable


async def test_captions_start_when_the_server_comes_up(stage: Open) -> None:
    backend = ScriptedBackend(script(*WORDS))
    async with (
        StandInNextcloud() as nextcloud,
        switchable(nextcloud) as server,
        stage(nextcloud, backend) as scene,
    ):
        early = nextcloud.add_member(ROOM, "early", "Early")
        pressed = await press_alone(nextcloud, early)
        assert pressed.status_code == 200
        room = await scene.until(lambda room: bool(room and room["detail"]))
        assert room is not None
        assert room["state"] == "connecting"
        assert "cannot reach the signaling server" in room["detail"]
        await server.on()
        await scene.until(in_call, limit_s=5)
        _, bob = await scene.talk()
        await bob.until(lambda: bob.said() == list(WORDS))


async def test_wrong_secret_then_the_next_press(stage: Open) -> None:
    async with (
        StandInNextcloud() as nextcloud,
        switchable(nextcloud) as server,
        stage(nextcloud) as scene,
    ):
        await server.on("another secret")
        member = nextcloud.add_member(ROOM, "bob", "Bob")
        assert (await press_alone(nextcloud, member)).status_code == 200
        refused = await scene.until(
            lambda room: bool(room and room["state"] == "refused")
        )
        assert refused is not None
        assert "refused the internal secret" in refused["detail"]
        assert "next attempt in" in refused["detail"]
        # Another room: nothing hangs.
        with anyio.fail_after(1):
            await scene.app.transcribe("other")
            await scene.app.post("/api/v1/call/leave", {"roomToken": "other"})
        await server.off()
        await server.on()
        assert (await press_alone(nextcloud, member)).status_code == 200
        await scene.until(in_call, limit_s=5)


async def test_the_log_tells_of_each_outage_and_of_its_end(
    stage: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="live_transcription.call")
    async with (
        StandInNextcloud() as nextcloud,
        switchable(nextcloud) as server,
        stage(nextcloud) as scene,
    ):
        await server.on()
        bob = await scene.enter("bob")
        await scene.press(bob)
        for _ in range(2):
            await scene.until(in_call)
            await server.off()
            await scene.until(lambda room: not in_call(room))
            await server.on()
        await scene.until(in_call)
        await scene.app.post("/api/v1/call/leave", {"roomToken": ROOM})
        await scene.until(lambda room: room is None)
    told = [one for one in caplog.records if one.name == "live_transcription.call"]
    assert all(vars(one)["room_token"] == ROOM for one in told)
    assert told[0].getMessage() == "captions are wanted: joining the call"
    ups = [n for n, one in enumerate(told) if one.getMessage() == "in the call"]
    assert len(ups) == 3
    for up, following in pairwise(ups):
        between = told[up + 1 : following]
        assert between
        assert all(one.levelno == logging.WARNING for one in between)
    assert told[-1].getMessage() == "left: told to leave"
    assert vars(told[-1])["captions_sent"] == 0


async def test_readers_survive_a_restart_of_the_server(stage: Open) -> None:
    backend = chatter(200)
    async with (
        StandInNextcloud() as nextcloud,
        switchable(nextcloud) as server,
        stage(nextcloud, backend) as scene,
    ):
        await server.on()
        alice, bob = await scene.talk()
        await bob.until(lambda: len(bob.captions) >= 2)
        await server.off()
        lost = await scene.until(lambda room: not in_call(room))
        assert lost is not None
        assert lost["state"] == "reconnecting"
        alice.rejoined = bob.rejoined = 0
        await server.on()
        await scene.until(in_call)
        for person, flags in ((alice, 3), (bob, 1)):
            # As Talk's clients: first the room, then the call.
            await person.until(lambda who=person: who.rejoined > 0)  # type: ignore[misc]
            await nextcloud.join_call(person.member, InCallFlags(flags))
        bob.captions.clear()
        await bob.until(lambda: len(bob.captions) >= 2, limit_s=40)
