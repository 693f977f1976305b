"""The model is loaded, cannot be, takes long, and fails at work."""

import logging
import threading

import anyio
import pytest

from kyutai_stream.backend import (
    ConnectRequest,
    Progress,
)
from kyutai_stream.backends.local import (
    LocalBackend,
    LocalSettings,
)
from kyutai_stream.errors import (
    BackendUnavailable,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
)

from .stand_in import (
    SILENCE,
    Bench,
    StandIn,
    flushed,
    say,
    speech,
    threads,
    until,
    words,
)


async def test_a_failing_model_ends_its_connections_and_is_loaded_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    caplog.set_level(logging.DEBUG)
    async with bench.open() as one, bench.open() as two:
        await say(one, [SILENCE, *speech("kept")])
        await until(one, lambda e: isinstance(e, Progress) and e.frames_processed == 6)
        bench.models[0].fail = RuntimeError("out of memory")
        await one.send(SILENCE)
        with pytest.raises(ConnectionLost, match="out of memory"):
            await until(one, lambda event: False)
        with pytest.raises(ConnectionLost):
            await one.send(SILENCE)
        with pytest.raises(ConnectionLost):
            await until(two, lambda event: False)
    assert "kept" not in caplog.text
    async with bench.open() as connection:
        await say(connection, [SILENCE, *speech("back")])
        assert words(await flushed(connection)) == ["back"]
    assert bench.loads == 2
    assert not threads()


@pytest.mark.parametrize(
    "error", [BackendUnavailable("no torch"), ConfigError("bad"), ConnectFailed("hub")]
)
async def test_a_model_that_cannot_be_loaded(error: Exception) -> None:
    bench = Bench()
    bench.error = error
    for _ in range(2):
        with pytest.raises(type(error), match=str(error)):
            async with bench.open():
                raise AssertionError("it has no model")
    assert bench.loads == 2
    bench.error = None
    async with bench.open() as connection:
        await flushed(connection)


async def test_one_who_gives_up_during_a_long_load_leaves_at_once() -> None:
    bench = Bench(slots=1)
    bench.may_load.clear()
    for _ in range(2):
        started = anyio.current_time()
        with anyio.move_on_after(0.05) as scope:
            async with bench.open():
                raise AssertionError("it is not loaded")
        assert scope.cancelled_caught
        assert anyio.current_time() - started < 4
    # The load went on, and the model is there for the next one.
    bench.may_load.set()
    async with bench.open() as connection:
        await say(connection, [SILENCE, *speech("late")])
        assert words(await flushed(connection)) == ["late"]
    assert bench.loads == 1
    assert not threads()


async def test_a_load_that_takes_too_long() -> None:
    gate = threading.Event()

    def slow(settings: LocalSettings) -> StandIn:
        assert gate.wait(20)
        return StandIn(settings.slots)

    backend = LocalBackend(load=slow, ready_timeout_s=0.05)
    with pytest.raises(ConnectFailed, match=r"0\.05 s"):
        async with backend.connect(ConnectRequest()):
            raise AssertionError("it is not loaded")
    (thread,) = threads()
    gate.set()
    await anyio.to_thread.run_sync(thread.join, 20)


async def test_loading_early() -> None:
    bench = Bench()
    await bench.backend.load()
    assert bench.loads == 1
    assert not threads()
