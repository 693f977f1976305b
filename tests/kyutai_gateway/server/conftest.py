"""A stand-in for the program `moshi-server`: our fake, in a process of its own."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import anyio
import attrs
import pytest

from kyutai_gateway.config import GatewaySettings

SCRIPT = '''#!{python}
"""Takes moshi-server's command line and reads its configuration."""
import os, signal, sys, tomllib
from pathlib import Path

MODES = {modes!r}
WORK = Path({work!r})

starts = WORK / "starts"
with starts.open("a") as file:
    file.write(str(os.getpid()) + "\\n")
number = len(starts.read_text().split()) - 1
mode = MODES[min(number, len(MODES) - 1)]
(WORK / "arguments").write_text("\\n".join(sys.argv[1:]))
(WORK / "environment").write_text("\\n".join(sorted(os.environ)))
config_path = sys.argv[sys.argv.index("--config") + 1]
(WORK / "mode").write_text(oct(os.stat(config_path).st_mode & 0o777))
(WORK / "config.toml").write_text(Path(config_path).read_text())
config = tomllib.loads(Path(config_path).read_text())

if mode == "exits":
    print("key is", config["authorized_ids"][0])
    print("CUDA_ERROR_NOT_FOUND, says the driver", file=sys.stderr, flush=True)
    sys.exit(3)
if mode == "chatters":
    # More than any pipe holds, without a single line end.
    for _ in range(64):
        os.write(1, b"x" * 65536)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode == "never":
    signal.pause()

import anyio
from kyutai_stream.testing.moshi_server import FakeMoshiServer, Model

async def main():
    module = config["modules"]["asr"]
    heads = module["model"].get("extra_heads", {{"num_heads": 0}})["num_heads"]
    server = FakeMoshiServer(
        Model(
            batch_size=module["batch_size"],
            delay_steps=module["asr_delay_in_tokens"],
            pause_heads=heads,
        ),
        keys=config["authorized_ids"],
        path=module["path"],
        speed=float("inf") if mode != "slow" else 3.0,
    )
    # The fake chooses its port itself; a moshi-server is told.
    server._port = int(sys.argv[sys.argv.index("--port") + 1])
    async with server:
        if mode == "wedged":
            server.wedge()
        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            async for _ in signals:
                server.wedge()

anyio.run(main)
'''


class StandIn:
    """What a stand-in was told, and which processes there were."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def read(self, name: str) -> str:
        return (self.work / name).read_text()

    @property
    def pids(self) -> list[int]:
        starts = self.work / "starts"
        return [int(pid) for pid in starts.read_text().split()]


class MakeStandIn(Protocol):
    def __call__(
        self, *modes: str, **changes: Any
    ) -> tuple[GatewaySettings, StandIn]: ...


@pytest.fixture
def stand_in(tmp_path: Path) -> MakeStandIn:
    """Return a maker: modes of the first, second … start, changes of settings."""

    def make(*modes: str, **changes: Any) -> tuple[GatewaySettings, StandIn]:
        program = tmp_path / "moshi-server"
        text = SCRIPT.format(
            python=sys.executable, modes=modes or ("serves",), work=str(tmp_path)
        )
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        weights = tmp_path / "weights"
        weights.mkdir(exist_ok=True)
        for name in (
            "model.safetensors",
            "mimi-pytorch-e351c8d8@125.safetensors",
            "tokenizer_en_fr_audio_8000.model",
            "tokenizer_en_audio_4000.model",
        ):
            (weights / name).touch()
        settings = GatewaySettings(
            auth="none",
            moshi_server=program,
            weights_dir=weights,
            slots=2,
            start_timeout_s=30.0,
            warm_up_timeout_s=20.0,
            ready_timeout_s=2.0,
            probe_interval_s=0.2,
            restart_backoff_s=0.05,
            terminate_s=2.0,
        )
        return attrs.evolve(settings, **changes), StandIn(tmp_path)

    return make


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        stat_line = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat_line.rpartition(")")[2].split()[0] not in "ZX"


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait for what another process does."""
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.02)


@pytest.fixture(name="alive")
def alive_fixture() -> Callable[[int], bool]:
    return alive


@pytest.fixture(name="until")
def until_fixture() -> Any:
    return until
