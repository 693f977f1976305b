# SPDX-License-Identifier: AGPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from live_transcription.demo.cli import run


def test_tones_and_files_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(["--voice", "tones", "--audio", str(tmp_path / "speech.wav")])
    assert status == 2
    assert "exclude" in capsys.readouterr().err
