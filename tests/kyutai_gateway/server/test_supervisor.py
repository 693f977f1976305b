"""The supervisor with a stand-in for moshi-server in real processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from kyutai_gateway.config import SettingsError
from kyutai_gateway.supervisor import SupervisedServer, UpstreamFailed
from kyutai_gateway.upstream import Upstream, UpstreamState
from kyutai_stream import CapacityError, ConnectFailed, ConnectRequest
from kyutai_stream.backend import Ready
from kyutai_stream.testing.tones import speak

Until = Callable[..., Awaitable[None]]
Alive = Callable[[int], bool]
REQUEST = ConnectRequest()


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process and no folder may outlive any of these tests."""
    runs = tmp_path / "runs"
    runs.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(runs))
    yield
    starts = tmp_path / "starts"
    pids = starts.read_text().split() if starts.exists() else []
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert list(runs.iterdir()) == []


def environment_of(pid: int) -> dict[bytes, bytes]:
    text = Path(f"/proc/{pid}/environ").read_bytes()
    pairs = (one.partition(b"=") for one in text.split(b"\0"))
    return {name: value for name, _, value in pairs}


async def ready(server: SupervisedServer) -> None:
    with anyio.fail_after(30):
        await server.wait_ready()


async def test_starts_it_proves_it_and_ends_it(stand_in: Any, alive: Alive) -> None:
    settings, program = stand_in("serves", slots=3)
    async with SupervisedServer(settings) as server:
        upstream: Upstream = server
        assert server.state is UpstreamState.STARTING
        with pytest.raises(ConnectFailed):
            async with upstream.backend.connect(REQUEST):
                pass
        await ready(server)
        assert upstream.state is UpstreamState.READY
        assert (upstream.slots, upstream.model) == (3, "stt-1b-en_fr")
        async with upstream.backend.connect(REQUEST) as connection:
            first = await anext(aiter(connection))
            assert isinstance(first, Ready)
            assert first.capabilities == upstream.backend.capabilities
        pid = server.pid
        assert pid is not None and alive(pid) and [pid] == program.pids
    assert not alive(pid)
    assert server.pid is None and server.http_url is None


async def test_tells_it_what_it_must_know(stand_in: Any) -> None:
    settings, program = stand_in(
        "serves",
        device="cpu",
        library_path=(Path("/opt/python/lib"),),
        child_environment={"LD_LIBRARY_PATH": "/usr/lib/cuda", "PATH": "/bin"},
    )
    async with SupervisedServer(settings) as server:
        await ready(server)
        arguments = program.read("arguments").split("\n")
        port = arguments[arguments.index("--port") + 1]
        assert server.http_url == f"http://127.0.0.1:{port}"
        assert arguments[0] == "worker" and "--cpu" in arguments
        assert arguments[arguments.index("--addr") + 1] == "127.0.0.1"
        assert arguments[arguments.index("-l") + 1] == "warn"
        names = set(program.read("environment").split())
        assert names >= {"LD_LIBRARY_PATH", "NO_COLOR", "PATH"}
        assert "HOME" not in names
        assert program.read("mode") == "0o600"
        assert server.pid is not None
        libraries = environment_of(server.pid)[b"LD_LIBRARY_PATH"]
        assert libraries == b"/opt/python/lib:/usr/lib/cuda"
        assert os.getpgid(server.pid) == server.pid


async def test_every_start_has_a_key_of_its_own(stand_in: Any, until: Until) -> None:
    settings, program = stand_in("serves")
    async with SupervisedServer(settings) as server:
        keys = set()
        for _ in range(2):
            await ready(server)
            config = tomllib.loads(program.read("config.toml"))
            keys |= set(config["authorized_ids"])
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: server.state is UpstreamState.STARTING)
        assert len(keys) == 2


async def test_killed_it_comes_back(
    stand_in: Any, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    settings, program = stand_in("serves")
    async with SupervisedServer(settings) as server:
        await ready(server)
        async with server.backend.connect(REQUEST) as connection:
            events = aiter(connection)
            await anext(events)
            os.kill(program.pids[0], signal.SIGKILL)
            with pytest.raises(Exception, match="closed the connection"):
                await anext(events)
        await until(lambda: server.state is UpstreamState.STARTING)
        await ready(server)
        assert server.restarts == 1 and len(program.pids) == 2
        async with server.backend.connect(REQUEST):
            pass
    assert "ended by signal 9" in caplog.text


async def test_wedged_it_is_restarted(stand_in: Any, until: Until) -> None:
    settings, program = stand_in("serves")
    async with SupervisedServer(settings) as server:
        await ready(server)
        os.kill(program.pids[0], signal.SIGUSR1)
        await until(lambda: server.state is UpstreamState.WEDGED)
        assert "not ready within" in server.problem
        await ready(server)
        assert (server.restarts, len(program.pids)) == (1, 2)
        assert server.problem == ""


async def test_stopped_it_is_restarted(
    stand_in: Any, until: Until, alive: Alive
) -> None:
    settings, program = stand_in("serves")
    async with SupervisedServer(settings) as server:
        await ready(server)
        os.kill(program.pids[0], signal.SIGSTOP)
        await until(lambda: server.state is UpstreamState.WEDGED)
        await until(lambda: len(program.pids) == 2)
        assert not alive(program.pids[0])
        await ready(server)


async def test_a_suspicion_is_looked_into_at_once(stand_in: Any, until: Until) -> None:
    settings, program = stand_in("serves", probe_interval_s=3600.0)
    async with SupervisedServer(settings) as server:
        await ready(server)
        os.kill(program.pids[0], signal.SIGUSR1)
        server.suspect()
        await until(lambda: server.state is UpstreamState.WEDGED, 10)
        await until(lambda: server.restarts == 1)


async def test_a_wrong_suspicion_harms_nobody(stand_in: Any, until: Until) -> None:
    settings, program = stand_in(
        "serves", probe_interval_s=3600.0, slots=3, ready_timeout_s=10.0
    )
    async with SupervisedServer(settings) as server:
        await ready(server)
        states: list[UpstreamState] = []
        async with server.backend.connect(REQUEST):
            for _ in range(20):
                server.suspect()
                await anyio.sleep(0.05)
                states.append(server.state)
        assert set(states) == {UpstreamState.READY}
        assert len(program.pids) == 1


async def test_its_slots_are_for_streams_first(stand_in: Any) -> None:
    """One slot, probes all the time, and never is a stream refused."""
    settings, _ = stand_in("slow", slots=1, probe_interval_s=0.1, ready_timeout_s=10.0)
    async with SupervisedServer(settings) as server:
        await ready(server)
        for _ in range(20):
            async with server.backend.connect(REQUEST) as connection:
                await anext(aiter(connection))
        async with server.backend.connect(REQUEST):
            # Full with our own stream: that is no reason to doubt it.
            server.suspect()
            await anyio.sleep(1.5)
            assert server.state is UpstreamState.READY
            with pytest.raises(CapacityError):
                async with server.backend.connect(REQUEST):
                    pass
        assert server.restarts == 0


async def test_full_without_our_streams_is_dead(
    stand_in: Any, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead loop frees no slot: the server says it is full for ever."""
    monkeypatch.setattr("kyutai_gateway.supervisor.FULL_S", 1.0)
    settings, program = stand_in("serves", slots=1, probe_interval_s=3600.0)
    async with SupervisedServer(settings) as server:
        await ready(server)
        async with server.backend.connect(REQUEST):
            os.kill(program.pids[0], signal.SIGUSR1)
            server.suspect()
            # Its only place is taken by the stream: nothing can be asked.
            await anyio.sleep(1.2)
            assert server.state is UpstreamState.READY
        await until(lambda: server.restarts == 1)
        await ready(server)


@pytest.mark.parametrize(
    ("mode", "changes", "reason"),
    [
        ("exits", {}, "ended with status 3"),
        ("never", {"start_timeout_s": 2.0}, "was not ready within 2 s"),
        ("wedged", {"warm_up_timeout_s": 1.0}, "its model was not ready within 1 s"),
    ],
)
async def test_gives_up_after_the_last_restart(
    stand_in: Any,
    mode: str,
    changes: dict[str, float],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, program = stand_in(mode, max_restarts=1, **changes)
    server = SupervisedServer(settings)
    with anyio.fail_after(50), pytest.raises(UpstreamFailed, match=reason):
        async with server:
            await anyio.sleep_forever()
    assert server.state is UpstreamState.FAILED
    assert len(program.pids) == 2
    with pytest.raises(UpstreamFailed, match=reason):
        await server.wait_ready()


async def test_tells_what_it_said_but_not_its_key(
    stand_in: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings, program = stand_in("exits", max_restarts=0)
    with pytest.raises(UpstreamFailed):
        await SupervisedServer(settings).run()
    (key,) = tomllib.loads(program.read("config.toml"))["authorized_ids"]
    (record,) = [one for one in caplog.records if "is over" in one.message]
    assert record.levelno == logging.ERROR
    lines = getattr(record, "last_lines")  # noqa: B009  # from `extra`
    assert "CUDA_ERROR_NOT_FOUND" in lines and "key is …" in lines
    assert key not in str([vars(one) for one in caplog.records])


async def test_recovers_from_a_bad_start(stand_in: Any) -> None:
    settings, program = stand_in("exits", "wedged", "serves", warm_up_timeout_s=1.0)
    async with SupervisedServer(settings) as server:
        await ready(server)
        assert (server.restarts, len(program.pids)) == (2, 3)


async def test_output_never_holds_it_up(stand_in: Any) -> None:
    settings, _ = stand_in("chatters")
    async with SupervisedServer(settings) as server:
        await ready(server)


async def test_ends_one_that_does_not_want_to(stand_in: Any, alive: Alive) -> None:
    settings, program = stand_in("stubborn", terminate_s=0.3)
    with anyio.move_on_after(30) as scope:
        async with SupervisedServer(settings) as server:
            await ready(server)
            scope.cancel()
            await anyio.sleep_forever()
    assert not alive(program.pids[0])


async def test_cancelled_while_it_starts(stand_in: Any, until: Until) -> None:
    settings, program = stand_in("never")
    async with SupervisedServer(settings):
        await until((program.work / "mode").exists)


async def test_an_error_of_the_body_stays_what_it_is(stand_in: Any) -> None:
    settings, _ = stand_in("serves")
    with pytest.raises(LookupError, match="mine"):
        async with SupervisedServer(settings) as server:
            await ready(server)
            raise LookupError("mine")
    with pytest.raises(ExceptionGroup, match="mine"):
        async with SupervisedServer(settings) as server:
            raise ExceptionGroup("mine", [LookupError()])


async def test_a_program_that_is_not_there(stand_in: Any, tmp_path: Path) -> None:
    settings, _ = stand_in(moshi_server=tmp_path / "nowhere", max_restarts=0)
    with pytest.raises(UpstreamFailed, match="status 127"):
        await SupervisedServer(settings).run()


async def test_missing_weights_are_a_setting(stand_in: Any, tmp_path: Path) -> None:
    settings, _ = stand_in(lm_file=tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="KYUTAI_GATEWAY_LM_FILE: .*nowhere"):
        async with SupervisedServer(settings):
            await anyio.sleep_forever()


async def test_a_model_without_steps(stand_in: Any, until: Until) -> None:
    settings, program = stand_in("serves", model="stt-2.6b-en")
    async with SupervisedServer(settings) as server:
        await ready(server)
        assert not server.backend.capabilities.acks
        os.kill(program.pids[0], signal.SIGUSR1)
        await until(lambda: server.state is UpstreamState.WEDGED)


async def test_tells_where_the_time_of_the_start_went(
    stand_in: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kyutai_gateway")
    settings, _ = stand_in("serves")
    async with SupervisedServer(settings) as server:
        assert server.cold_start == {}
        await ready(server)
        for _ in range(3):
            server.first_word()
        record = server.cold_start
    names = ("boot_ts", "exec_ts", "listen_ts", "ready_ts", "first_word_ts")
    moments = [record[name] for name in names]
    assert None not in moments and moments == sorted(moments, key=lambda at: at or 0)
    logged = [one for one in caplog.records if hasattr(one, "boot_ts")]
    assert [getattr(one, "event") for one in logged] == ["cold_start", "first_word"]  # noqa: B009
    assert getattr(logged[0], "first_word_ts") is None  # noqa: B009


GATEWAY = """
import anyio, sys
from pathlib import Path
from kyutai_gateway.config import GatewaySettings
from kyutai_gateway.supervisor import SupervisedServer

async def main():
    settings = GatewaySettings(
        auth="none", moshi_server=Path(sys.argv[1]), weights_dir=Path(sys.argv[2]),
        ready_timeout_s=5.0,
    )
    async with SupervisedServer(settings) as server:
        await server.wait_ready()
        print(server.pid, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux promises that")
async def test_not_even_sigkill_of_the_gateway_leaves_it_behind(
    stand_in: Any, alive: Alive, until: Until, tmp_path: Path
) -> None:
    settings, _ = stand_in("stubborn")
    command = [sys.executable, "-c", GATEWAY]
    paths = [str(settings.moshi_server), str(settings.weights_dir)]
    async with await anyio.open_process(
        [*command, *paths],
        stderr=None,
        stdout=subprocess.PIPE,
        env={"TMPDIR": str(tmp_path)},
    ) as gateway:
        assert gateway.stdout is not None
        with anyio.fail_after(40):
            pid = int(await gateway.stdout.receive())
        assert alive(pid)
        gateway.kill()
        await gateway.wait()
    await until(lambda: not Path(f"/proc/{pid}").exists())


async def test_words_come_through(stand_in: Any) -> None:
    settings, _ = stand_in("serves")
    utterance = speak("alpha bravo", tail_s=2.0)
    samples = utterance.samples
    async with SupervisedServer(settings) as server:
        await ready(server)
        words: list[str] = []
        async with server.backend.connect(REQUEST) as connection:
            for at in range(0, len(samples) - 1919, 1920):
                await connection.send(samples[at : at + 1920])
            await connection.request_flush(1)
            with anyio.fail_after(10):
                async for event in connection:
                    match attrs.asdict(event, recurse=False):
                        case {"text": text}:
                            words.append(text)
                        case {"token": 1}:
                            break
        assert words == ["alpha", "bravo"]
