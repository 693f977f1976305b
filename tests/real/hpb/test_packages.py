"""Where the real servers come from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from spreed_signaling.testing.real import (
    HPB_SUITES,
    RealServersUnavailable,
    prepare,
    unavailable_reason,
)
from spreed_signaling.testing.real import _packages as packages
from spreed_signaling.testing.real.__main__ import main

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class TestPackages:
    def test_this_machine_can_run_them(self) -> None:
        assert unavailable_reason() is None

    @pytest.mark.parametrize("suite", HPB_SUITES)
    def test_both_versions_are_cached(self, suite: str) -> None:
        package = packages.find_hpb(suite, packages.default_cache())
        assert package is not None
        assert package.version[0].isdigit()

    async def test_two_at_once_download_once(self, tmp_path: Path) -> None:
        suite = "bookworm-backports"
        said: list[str] = []
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                fetch = packages.fetch_hpb
                tasks.start_soon(fetch, suite, tmp_path, said.append)
        assert len([line for line in said if line.startswith("downloading")]) == 1
        found = packages.find_hpb(suite, tmp_path)
        assert found is not None
        assert os.access(found.binary, os.X_OK)
        assert sorted(os.listdir(tmp_path)) == ["lock", "packages", "suites"]

    @pytest.mark.parametrize(
        ("targets", "mirror"),
        [
            (["Origin: Debian", "Release: bookworm"], "http://mirror/debian/"),
            (["Origin: Other", "Release: bookworm"], None),
            (["Origin: Debian", "Release: bookworm-security"], None),
            (["Release: bookworm"], "http://mirror/debian/"),
        ],
        ids=["debian", "other", "security", "never updated"],
    )
    async def test_the_mirror_is_the_one_of_apt(
        self, monkeypatch: pytest.MonkeyPatch, targets: list[str], mirror: str | None
    ) -> None:
        lines = ["Repo-URI: http://mirror/debian/", *targets]

        async def apt(*command: str, **options: Any) -> tuple[int, str]:
            return 0, "\n".join(lines) + "\n\n"

        monkeypatch.setattr(packages, "run_command", apt)
        if mirror is None:
            with pytest.raises(RealServersUnavailable, match="no Debian mirror"):
                await packages._debian_mirror()
        else:
            assert await packages._debian_mirror() == mirror

    def test_the_command_says_what_is_ready(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["prepare", "sid"]) == 0
        assert "ready: signaling servers of sid, and Janus" in capsys.readouterr().out
        assert main(["prepare", "../sid"]) == 1
        assert "not the name of a Debian suite" in capsys.readouterr().err

    async def test_an_unknown_suite_is_unavailable_and_leaves_no_trace(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(RealServersUnavailable, match="no-such-suite"):
            await prepare(("no-such-suite",), cache=tmp_path)
        with pytest.raises(RealServersUnavailable, match="name of a Debian suite"):
            await prepare(("../sid",), cache=tmp_path)
        assert os.listdir(tmp_path) == ["lock"]
