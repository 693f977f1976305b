"""Lost and failed connections, and leaving: through the public API."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest

from kyutai_stream import (
    AuthError,
    BackendUnavailable,
    CapacityError,
    Final,
    FinalReason,
    Gap,
    SessionOptions,
    SessionState,
    Usage,
    open_session,
)
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord

from .scripted import AT_ONCE, of, read, run, script, sound, states


class TestLostConnections:
    async def test_it_connects_again_and_loses_nothing(self) -> None:
        again = ConnectionScript(
            words=tuple(
                # The second connection hears from the seam on, at 0.44 s or before.
                ScriptedWord(text=text, start=start, end=start + 0.3)
                for text, start in (("two", 0.36), ("three", 0.66), ("four", 2.0))
            )
        )
        backend = ScriptedBackend(script("one two three", lose_after=20), again)
        async with open_session(
            backend, options=SessionOptions(retry=AT_ONCE)
        ) as session:
            await session.push(sound(4.0))
            await session.end_input()
            events = await read(session)
        assert states(events) == [
            "connecting",
            "ready",
            "reconnecting",
            "ready",
            "closed",
        ]
        text = " ".join(final.text for final in of(Final, events))
        assert text == "one two three four"
        assert of(Final, events)[0].reason is FinalReason.DISCONNECT
        assert of(Gap, events) == []
        metrics = session.metrics
        assert (metrics.reconnects, metrics.duplicates_dropped) == (1, 1)
        assert 0.5 < metrics.usage.replayed_s < 2.0
        # Every sample was sent, the replayed ones twice.
        live_s = metrics.usage.audio_sent_s - metrics.usage.silence_s
        assert live_s >= 4.0

    async def test_capacity_is_retried(self) -> None:
        backend = ScriptedBackend(
            ConnectionScript(refuse=CapacityError("full")), script("one")
        )
        events = await run(backend, 2.0, retry=AT_ONCE)
        assert states(events)[1:3] == ["reconnecting", "ready"]
        assert [final.text for final in of(Final, events)] == ["one"]
        assert of(Gap, events) == []

    async def test_it_gives_up_in_the_end(self) -> None:
        backend = ScriptedBackend(ConnectionScript(refuse=CapacityError("full")))
        seen = []
        with pytest.raises(BackendUnavailable, match="full"):
            options = SessionOptions(retry=attrs.evolve(AT_ONCE, give_up_s=0.05))
            async with open_session(backend, options=options) as session:
                await session.push(sound(1.0))
                async for event in session:
                    seen.append(event)
        assert len(backend.requests) > 2
        # What was waiting is reported, and the books are closed, before the error.
        assert of(Gap, seen)[0].reason == "not transcribed"
        assert of(Gap, seen)[0].end == pytest.approx(1.0)
        assert states(seen)[-1] == SessionState.CLOSED

    async def test_bad_credentials_are_not_retried(self) -> None:
        backend = ScriptedBackend(ConnectionScript(refuse=AuthError("no")))
        with pytest.raises(AuthError):
            async with open_session(backend) as session:
                await read(session)
        assert len(backend.requests) == 1

    async def test_every_method_raises_the_failure(self) -> None:
        backend = ScriptedBackend(ConnectionScript(refuse=AuthError("no")))
        async with open_session(backend) as session:
            with pytest.raises(AuthError):
                await read(session)
            with pytest.raises(AuthError):
                await session.push(sound(0.1))
            with pytest.raises(AuthError):
                session.try_push(sound(0.1))
            with pytest.raises(AuthError):
                await session.flush()
            await session.end_input()

    async def test_a_failure_nobody_saw_comes_out_at_the_end(self) -> None:
        backend = ScriptedBackend(ConnectionScript(refuse=AuthError("no")))
        with pytest.raises(AuthError):
            async with open_session(backend):
                while not backend.requests:
                    await anyio.lowlevel.checkpoint()
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()

    async def test_a_bug_in_a_backend_is_not_hidden(self) -> None:
        backend = ScriptedBackend(ConnectionScript(refuse=ZeroDivisionError("bug")))
        with pytest.raises(ZeroDivisionError):
            async with open_session(backend) as session:
                await read(session)

    async def test_a_recogniser_that_is_never_ready(self) -> None:
        backend = ScriptedBackend(ConnectionScript(never_ready=True))
        with pytest.raises(BackendUnavailable, match="not ready"):
            retry = attrs.evolve(AT_ONCE, give_up_s=0.05)
            options = SessionOptions(connect_timeout_s=0.01, retry=retry)
            async with open_session(backend, options=options) as session:
                await read(session)
        assert backend.open == 0

    async def test_a_recogniser_that_takes_nothing(self) -> None:
        backend = ScriptedBackend(ConnectionScript(stop_reading_after=0), script("one"))
        events = await run(backend, 2.0, retry=AT_ONCE, send_timeout_s=0.01)
        assert of(Gap, events) == []
        assert of(Final, events)[0].text == "one"

    async def test_an_end_without_an_answer_is_bounded(self) -> None:
        backend = ScriptedBackend(script("one two", confirm_flush=False))
        events = await run(backend, 0.8, end_timeout_s=0.01)
        assert states(events)[-1] == "closed"
        assert [final.text for final in of(Final, events)] == ["one"]
        assert len(backend.requests) == 1


class TestLeaving:
    async def test_nothing_outlives_the_block(self) -> None:
        backend = ScriptedBackend(script("one"))
        async with open_session(backend) as session:
            await session.push(sound(1.0))
            await session.flush()
            assert backend.open == 1
        assert backend.open == 0

    async def test_the_error_of_the_block_comes_out_as_it_is(self) -> None:
        backend = ScriptedBackend()
        with pytest.raises(LookupError):
            async with open_session(backend) as session:
                await session.push(sound(0.1))
                raise LookupError("mine")
        assert backend.open == 0

    async def test_it_wins_over_the_sessions_own(self) -> None:
        backend = ScriptedBackend(ConnectionScript(refuse=AuthError("no")))
        with pytest.raises(LookupError):
            async with open_session(backend) as session:
                with pytest.raises(AuthError):
                    await read(session)
                raise LookupError("mine")

    async def test_cancelling_closes(self) -> None:
        backend = ScriptedBackend()
        with anyio.move_on_after(0.05) as scope:
            async with open_session(backend) as session:
                await read(session)
        assert scope.cancelled_caught
        assert backend.open == 0

    async def test_a_connection_group_error_is_unwrapped(self) -> None:
        class Grouped(ScriptedBackend):
            name = "grouped"

            def connect(self, request: Any) -> Any:
                raise ExceptionGroup(
                    "many",
                    [ValueError("x"), ExceptionGroup("y", [AuthError("no")])],
                )

        with pytest.raises(AuthError):
            async with open_session(Grouped()) as session:
                await read(session)

    async def test_a_loss_while_ending_is_made_good(self) -> None:
        backend = ScriptedBackend(ConnectionScript(lose_after=10), script("one"))
        events = await run(backend, 0.8, retry=AT_ONCE)
        assert [final.text for final in of(Final, events)] == ["one"]
        assert of(Gap, events) == []

    async def test_an_end_in_an_outage_is_bounded_and_reported(self) -> None:
        backend = ScriptedBackend(
            ConnectionScript(lose_after=10),
            ConnectionScript(refuse=CapacityError("full")),
        )
        events = await run(backend, 0.8, retry=AT_ONCE, end_timeout_s=0.1)
        assert states(events)[-1] == "closed"
        (gap,) = of(Gap, events)
        # Ten frames less the delay were heard.
        assert (gap.start, gap.end) == pytest.approx((0.32, 0.8))
        assert gap.reason == "not transcribed"
        assert of(Usage, events)[0].gap_s == pytest.approx(0.48)
