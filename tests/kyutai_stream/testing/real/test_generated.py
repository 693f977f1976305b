"""What the real server is fed, looked at without the server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kyutai_stream.testing import tones
from kyutai_stream.testing.real import (
    ExpectedEnd,
    ExpectedWord,
    MoshiServerUnavailable,
    RealMoshiServer,
    _build,
    _mimi,
    unavailable_reason,
)
from kyutai_stream.testing.real._build import build_server, missing_tools
from kyutai_stream.testing.real._tensors import Array, Zeros, save_sparse
from kyutai_stream.testing.real._weights import ensure_weights, model_files

safetensors = pytest.importorskip("safetensors.numpy")

GENERATE = """
import sys, anyio
from pathlib import Path
from kyutai_stream.testing.real._weights import ensure_weights
print(anyio.run(ensure_weights, Path(sys.argv[1]), lambda line: None))
"""


def test_zeros_are_written_as_holes(tmp_path: Path) -> None:
    some = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors: dict[str, Array | Zeros] = {
        "a": Zeros((1000, 1000)),
        "b": some,
        "c": Zeros((2,)),
    }
    path = tmp_path / "file"
    size = save_sparse(tensors, path)
    assert path.stat().st_size == size
    assert path.stat().st_blocks * 512 < 100_000
    loaded = safetensors.load_file(path)
    assert loaded["a"].shape == (1000, 1000) and not loaded["a"].any()
    assert (loaded["b"] == some).all()
    assert loaded["c"].tolist() == [0.0, 0.0]


async def test_the_files_are_what_the_server_loads(tmp_path: Path) -> None:
    said: list[str] = []
    folder = await ensure_weights(tmp_path, said.append)
    assert await ensure_weights(tmp_path, said.append) == folder
    assert len(said) == 1
    files = model_files(folder, "listen")
    mimi = safetensors.load_file(files.mimi)
    assert len(mimi) == 246
    assert files.mimi.stat().st_size > 334_000_000
    lm = safetensors.load_file(files.lm)
    assert lm["text_emb.weight"].shape == (65, 256)
    assert {f"emb.{book}.weight" for book in range(8)} <= set(lm)


def test_two_processes_generate_once(tmp_path: Path) -> None:
    (tmp_path / "part-of-a-killed-process").mkdir()
    command = [sys.executable, "-c", GENERATE, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    folders = {process.communicate(timeout=60)[0] for process in both}
    assert len(folders) == 1
    kept = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert [path.name.partition("-")[0] for path in kept] == ["weights"]


def test_the_script_is_what_was_measured_before() -> None:
    assert RealMoshiServer().expect(steps=14) == [
        ExpectedWord(step=9, text="bravo", start=0.0),
        ExpectedEnd(step=10, stop=0.32),
        ExpectedWord(step=13, text="charlie", start=0.32),
        ExpectedEnd(step=14, stop=0.64),
    ]


@pytest.mark.parametrize("seed", range(10))
def test_all_words_are_heard_wherever_they_begin_in_a_frame(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(tones.VOCABULARY)
    spoken = tones.speak(" ".join(order), lead_s=0.013 * seed, seed=seed, tail_s=1.0)
    said = RealMoshiServer(model="listen").expect(spoken.samples)
    heard = [word for word in said if isinstance(word, ExpectedWord)]
    assert [word.text for word in heard] == list(order)
    assert [word.start for word in heard] == pytest.approx(
        [word.start for word in spoken.words], abs=0.08
    )


def test_noise_and_silence_are_no_words() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 24_000 * 5).astype(np.float32)
    server = RealMoshiServer(model="listen")
    assert server.expect(noise, steps=20) == []
    assert not any(any(names) for names in _mimi.hear(noise))


async def test_what_a_build_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    reason = missing_tools()
    assert reason is not None
    assert "cargo (a recent Rust" in reason and "Debian package cmake" in reason
    told = unavailable_reason(tmp_path)
    assert told is not None and "real prepare" in told and "cargo" in told
    with pytest.raises(MoshiServerUnavailable, match="cargo"):
        await build_server(tmp_path, lambda line: None)


async def test_a_failing_build_shows_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_build, "missing_tools", lambda: None)
    command = ["sh", "-c", "echo the linker is missing; exit 101"]
    monkeypatch.setattr(_build, "_cargo_command", lambda work, python: command)
    with pytest.raises(MoshiServerUnavailable, match="status 101") as failed:
        await build_server(tmp_path, lambda line: None)
    assert "the linker is missing" in str(failed.value)
