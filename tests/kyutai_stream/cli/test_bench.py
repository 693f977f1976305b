"""`kyutai-stream bench`."""

from __future__ import annotations

import json
import shutil
import subprocess
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import Result

from kyutai_stream import Capabilities, ConfigError
from kyutai_stream.cli._bench import FileResult, bench, find_recordings
from kyutai_stream.cli._report import summary
from kyutai_stream.testing import ConnectionScript, ScriptedBackend, ScriptedWord
from kyutai_stream.testing.virtual_time import VirtualTimeLoop

Program = Callable[..., "subprocess.CompletedProcess[str]"]
Invoke = Callable[..., Result]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Recordings at the pace of speech cost no time, and latencies are exact."""
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


def write_wav(path: Path, samples: npt.NDArray[np.float32]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.fixture
def folder(tmp_path: Path, burst: npt.NDArray[np.float32]) -> Path:
    """One second of "speech" from 0.5 s to 1.5 s, then a second of quiet."""
    write_wav(tmp_path / "a.wav", burst)
    (tmp_path / "a.txt").write_text("One two three.")
    return tmp_path


def scripted(**more: Any) -> ScriptedBackend:
    words = (
        ScriptedWord(text="One", start=0.5, end=0.8),
        ScriptedWord(text="too", start=0.8, end=1.1),
        ScriptedWord(text="three.", start=1.1, end=1.5),
    )
    capabilities = Capabilities(acks=True, nominal_delay_s=0.48, **more)
    return ScriptedBackend(ConnectionScript(words=words), capabilities=capabilities)


async def measured(folder: Path, pace: float, **more: Any) -> list[FileResult]:
    seen: list[FileResult] = []
    results = await bench(
        find_recordings(folder),
        scripted(**more),
        language=None,
        pace=pace,
        done=seen.append,
    )
    assert seen == results
    return results


async def test_latencies_at_the_pace_of_speech(folder: Path) -> None:
    (result,) = await measured(folder, 1.0)
    assert result.audio_s == pytest.approx(2.5)
    # The first word is out when 0.8 s + 0.48 s have been heard, in frames of 80 ms.
    assert result.first_partial_s == pytest.approx(1.28 - 0.5, abs=0.1)
    # The last word comes 0.48 s after its end, the final at the end at the latest.
    assert result.ttfs_s is not None
    assert 0.4 <= result.ttfs_s <= 1.5
    assert len(result.word_latency_s) == 3
    assert all(0.35 <= value <= 0.8 for value in result.word_latency_s)
    assert result.rtf is not None
    assert 1.0 <= result.rtf < 1.6
    assert len(result.captions) >= 2


async def test_latency_does_not_depend_on_the_pace(folder: Path) -> None:
    (result,) = await measured(folder, 2.0)
    # At twice the speed the audio that a word needs comes in half the time.
    assert result.first_partial_s == pytest.approx((1.28 - 0.5) / 2, abs=0.1)


async def test_no_latencies_at_full_speed(folder: Path) -> None:
    (result,) = await measured(folder, 0.0)
    assert result.ttfs_s is None
    assert result.first_partial_s is None
    assert result.word_latency_s == ()
    assert result.rtf is not None


async def test_error_rates(folder: Path) -> None:
    (folder / "b.txt").write_text("one too three")
    shutil.copy(folder / "a.wav", folder / "b.wav")
    (folder / "c.txt").write_text("\n")
    shutil.copy(folder / "a.wav", folder / "c.wav")
    results = await measured(folder, 0.0)
    report = summary(results, backend="scripted", pace=0.0)
    raw, normalised = report["wer_raw"], report["wer_normalised"]
    assert raw["words"] == normalised["words"] == 6
    assert (raw["substituted"], normalised["substituted"]) == (3, 1)
    assert raw["pooled"] == raw["mean"] == 0.5
    assert normalised["pooled"] == round(1 / 6, 4)
    assert raw["empty_references"] == 1
    assert raw["words_heard_in_empty"] == 3
    assert report["results"][2]["wer_raw"] is None
    low, high = normalised["interval_95"]
    assert low <= normalised["pooled"] <= high
    json.dumps(report)


async def test_a_file_that_fails_does_not_stop_the_rest(folder: Path) -> None:
    (folder / "0.txt").write_text("x")
    (folder / "0.wav").write_text("no audio")
    bad, good = await measured(folder, 0.0)
    assert bad.error is not None
    assert "no audio" in bad.error
    assert good.error is None
    report = summary([bad, good], backend="scripted", pace=0.0)
    assert (report["files"], report["failed"]) == (2, 1)


async def test_silence_has_no_latency(tmp_path: Path) -> None:
    write_wav(tmp_path / "q.wav", np.zeros(48_000, dtype=np.float32))
    (tmp_path / "q.txt").write_text("")
    (result,) = await measured(tmp_path, 1.0)
    assert result.ttfs_s is None


async def test_notices_cannot_be_measured(folder: Path) -> None:
    with pytest.raises(ConfigError, match="recognises nothing"):
        await measured(folder, 0.0, transcribes=False)


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alone")
    (tmp_path / "b.wav").write_bytes(b"alone")
    with pytest.raises(ConfigError, match=r"meeting\.txt"):
        find_recordings(tmp_path)


class TestProgram:
    def test_pocketsphinx_on_the_bundled_speech(
        self, program: Program, meeting_path: Path
    ) -> None:
        pytest.importorskip("pocketsphinx")
        folder = meeting_path.parent
        done = program("bench", folder, "-b", "pocketsphinx", "-l", "en", "--pace", "0")
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
        assert rows[0][:2] == ["file", "audio"]
        (row,) = (row for row in rows if row[0] == "meeting.wav")
        assert row[1:3] == ["15.94", "s"]
        (normalised,) = (row for row in rows if row[:2] == ["WER", "normalised"])
        assert float(normalised[2].rstrip("%")) <= 10.0
        assert any(row[0] == "TTFS" for row in rows)
        assert any(row[0] == "real-time" for row in rows)

    def test_json_and_captions(self, invoke: Invoke, folder: Path) -> None:
        logs = folder / "logs"
        logs.mkdir()
        done = invoke(
            "bench", folder, "-b", "scripted-test", "--pace", "5", "--json",
            "--hypotheses", logs,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        assert report["files"] == 1
        assert set(report["ttfs_s"]) == {"p50", "p95", "p99"}
        lines = (logs / "a.wav.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["is_final"] is True

    def test_failures(self, invoke: Invoke, folder: Path) -> None:
        assert invoke("bench", folder, "-b", "activity").exit_code == 2
        assert invoke("bench", folder / "none", "-b", "picky-test").exit_code == 1
        assert invoke("bench", "-b", "picky-test").exit_code == 2
        done = invoke("bench", folder, "-b", "locked-test", "--pace", "0")
        assert done.exit_code == 1
        assert "a.wav" in done.stderr
        assert "key refused" in done.stderr
