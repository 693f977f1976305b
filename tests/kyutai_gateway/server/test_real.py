"""The supervisor with the real moshi-server and generated weights, on the CPU.

Such a server is slower than real time on a busy machine: nothing here reads the
clock, and probes are patient.
"""

from __future__ import annotations

import os
import signal
import tempfile
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from kyutai_gateway.config import GatewaySettings
from kyutai_gateway.moshi_config import SHAPES, ModelShape
from kyutai_gateway.supervisor import SupervisedServer
from kyutai_gateway.upstream import UpstreamState
from kyutai_stream import ConnectRequest
from kyutai_stream.backend import Flushed, Word
from kyutai_stream.testing.tones import speak

pytestmark = [pytest.mark.moshi, pytest.mark.timeout(240)]

Until = Callable[..., Awaitable[None]]
Alive = Callable[[int], bool]
TEXT = "alpha bravo charlie"


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    runs = tmp_path / "runs"
    runs.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(runs))
    yield
    assert list(runs.iterdir()) == []


@pytest.fixture
async def real(tmp_path: Path) -> tuple[GatewaySettings, ModelShape]:
    """Settings for the built server, and what its generated weights are."""
    from kyutai_stream.testing.real import unavailable_reason

    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(f"NOT TESTED AGAINST THE REAL SERVER: {reason}")
    return await settings_for_real()


async def settings_for_real() -> tuple[GatewaySettings, ModelShape]:
    # The harness knows where everything is and how large the weights are.
    from kyutai_stream.testing.real._build import default_cache, find_server
    from kyutai_stream.testing.real._config import server_config
    from kyutai_stream.testing.real._weights import ensure_weights, model_files

    cache = default_cache()
    binary = find_server(cache)
    assert binary is not None
    files = model_files(await ensure_weights(cache, lambda line: None), "listen")
    known: dict[str, Any] = tomllib.loads(
        server_config(files, folder=Path("/run"), batch_size=2, extra_heads=True)
    )["modules"]["asr"]["model"]
    settings = GatewaySettings(
        auth="none",
        device="cpu",
        dtype="f32",
        moshi_server=binary.path,
        library_path=(Path(binary.library_folder),),
        lm_file=files.lm,
        mimi_file=files.mimi,
        tokenizer_file=files.tokenizer,
        codebooks=known["audio_codebooks"],
        slots=2,
        start_timeout_s=90.0,
        warm_up_timeout_s=60.0,
        ready_timeout_s=8.0,
        probe_interval_s=0.5,
        restart_backoff_s=0.1,
    )
    return settings, shape_of(known)


def shape_of(model: dict[str, Any]) -> ModelShape:
    """The generated weights' sizes, as a configuration of moshi-server names them."""
    transformer = model["transformer"]
    return attrs.evolve(
        SHAPES["stt-1b-en_fr"],
        text_vocabulary=model["text_out_vocab_size"],
        layers=transformer["num_layers"],
        heads=transformer["num_heads"],
        context=transformer["context"],
        d_model=transformer["d_model"],
        feed_forward=transformer["dim_feedforward"],
        max_seq_len=transformer["max_seq_len"],
    )


async def ready(server: SupervisedServer) -> None:
    with anyio.fail_after(90):
        await server.wait_ready()


async def hear(server: SupervisedServer) -> list[str]:
    """Say `TEXT` to it and return what it understood."""
    samples = speak(TEXT, tail_s=1.5).samples
    words: list[str] = []
    async with server.backend.connect(ConnectRequest()) as connection:

        async def say() -> None:
            for at in range(0, len(samples) - 1919, 1920):
                await connection.send(samples[at : at + 1920])
            await connection.request_flush(1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say)
            async for event in connection:
                if isinstance(event, Word):
                    words.append(event.text)
                if isinstance(event, Flushed):
                    return words
    return words


async def test_starts_hears_and_ends(
    real: tuple[GatewaySettings, ModelShape], alive: Alive
) -> None:
    settings, shape = real
    async with SupervisedServer(settings, shape=shape) as server:
        await ready(server)
        assert await hear(server) == TEXT.split()
        record = server.cold_start
        assert all(record[f"{name}_ts"] for name in ("boot", "exec", "listen", "ready"))
        pid = server.pid
        assert pid is not None
        open_port = f"{int((server.http_url or '').rpartition(':')[2]):04X}"
        assert f"0100007F:{open_port}" in listening()
        assert f"00000000:{open_port}" not in listening()
    assert not alive(pid)


def listening() -> str:
    return Path("/proc/net/tcp").read_text()


async def test_killed_it_comes_back(
    real: tuple[GatewaySettings, ModelShape], until: Until
) -> None:
    settings, shape = real
    async with SupervisedServer(settings, shape=shape) as server:
        await ready(server)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: server.state is UpstreamState.STARTING)
        await ready(server)
        assert server.restarts == 1
        assert await hear(server) == TEXT.split()


async def test_stopped_it_is_found_out_and_restarted(
    real: tuple[GatewaySettings, ModelShape], until: Until, alive: Alive
) -> None:
    settings, shape = real
    quick = attrs.evolve(settings, ready_timeout_s=3.0)
    async with SupervisedServer(quick, shape=shape) as server:
        await ready(server)
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        # Its port is open all the time.
        await until(lambda: server.state is UpstreamState.WEDGED, 60)
        await until(lambda: not alive(pid), 60)
        await ready(server)
        assert server.restarts >= 1 and server.pid != pid


async def test_probes_never_take_a_place_from_a_stream(
    real: tuple[GatewaySettings, ModelShape],
) -> None:
    settings, shape = real
    single = attrs.evolve(settings, slots=1, probe_interval_s=0.1)
    async with SupervisedServer(single, shape=shape) as server:
        await ready(server)
        for _ in range(10):
            async with server.backend.connect(ConnectRequest()) as connection:
                await anext(aiter(connection))
        assert await hear(server) == TEXT.split()
        assert server.restarts == 0


async def test_wrong_weights_are_told(
    real: tuple[GatewaySettings, ModelShape],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the server says when it cannot start is not lost."""
    from kyutai_gateway.supervisor import UpstreamFailed

    settings, shape = real
    broken = tmp_path / "lm.safetensors"
    broken.write_bytes(b"no weights")
    wrong = attrs.evolve(settings, lm_file=broken, max_restarts=0)
    with pytest.raises(UpstreamFailed, match="ended with status"):
        await SupervisedServer(wrong, shape=shape).run()
    (record,) = [one for one in caplog.records if "is over" in one.message]
    assert getattr(record, "last_lines")  # noqa: B009  # from `extra`


async def test_without_pause_heads(real: tuple[GatewaySettings, ModelShape]) -> None:
    settings, shape = real
    silent = attrs.evolve(settings, model="stt-2.6b-en")
    async with SupervisedServer(
        silent, shape=attrs.evolve(shape, pause_heads=0)
    ) as server:
        await ready(server)
        await anyio.sleep(2)
        assert server.state is UpstreamState.READY
