"""Options and environment become the settings of a backend."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from kyutai_stream import ConfigError
from kyutai_stream.cli import _app
from kyutai_stream.cli._settings import BackendChoice, parse_setting

NAMES = {
    "KYUTAI_STREAM_URL": "wss://env.example.org",
    "KYUTAI_STREAM_API_KEY": "env-key",
    "MODAL_WORKSPACE": "env-workspace",
    "MODAL_KEY": "wk-env",
    "MODAL_SECRET": "ws-env",
}


def chosen(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, env: dict[str, str] | None = None
) -> BackendChoice:
    """The choice that `doctor` makes of these."""
    seen: list[BackendChoice] = []

    def examine(choice: BackendChoice, **_: object) -> None:
        seen.append(choice)
        raise typer.Exit(0)

    monkeypatch.setattr("kyutai_stream.cli._doctor.examine", examine)
    unset = dict.fromkeys((*NAMES, "KYUTAI_STREAM_BACKEND"))
    done = CliRunner().invoke(
        _app.app, ["doctor", *arguments], env={**unset, **(env or {})}
    )
    assert done.exit_code == 0, done.output
    (choice,) = seen
    return choice


def test_nothing_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch)
    assert (choice.name, choice.config()) == (None, {})


def test_what_is_typed_is_always_given(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(
        monkeypatch, "-b", "activity", "--url", "ws://x", "--set", "hangover_s=0.5"
    )
    assert choice.config() == {"url": "ws://x", "hangover_s": 0.5}
    with pytest.raises(ConfigError, match="refuses its settings"):
        choice.build()


def test_the_environment_is_for_those_who_know_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("websockets")
    assert chosen(monkeypatch, "-b", "activity", env=NAMES).config() == {}
    assert chosen(monkeypatch, "-b", "moshi-server", env=NAMES).config() == {
        "url": "wss://env.example.org",
        "api_key": "env-key",
    }
    assert set(chosen(monkeypatch, "-b", "modal", env=NAMES).config()) == {
        "url", "api_key", "workspace", "key", "secret",
    }  # fmt: skip


def test_typing_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("websockets")
    choice = chosen(monkeypatch, "-b", "modal", "--modal-workspace", "mine", env=NAMES)
    assert choice.config()["workspace"] == "mine"
    assert "url" not in choice.config()
    choice = chosen(monkeypatch, "-b", "modal", "--url", "wss://mine", env=NAMES)
    assert choice.config()["url"] == "wss://mine"


def test_secrets_are_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, "-b", "x", "--api-key", "hunter2", env=NAMES)
    assert "hunter2" not in repr(choice)
    assert "ws-env" not in repr(choice)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("a=1", ("a", 1)),
        ("a=", ("a", "")),
        ('a=["en"]', ("a", ["en"])),
        ("path=/x=y", ("path", "/x=y")),
        ("on=true", ("on", True)),
    ],
)
def test_reading_a_setting(text: str, setting: tuple[str, object]) -> None:
    assert parse_setting(text) == setting


@pytest.mark.parametrize("text", ["", "a", "=1", "a b=1"])
def test_what_is_no_setting(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parse_setting(text)


def test_an_unknown_backend_gets_no_ambient_settings(tmp_path: Path) -> None:
    choice = BackendChoice(name="nothing", ambient={"url": "ws://x"})
    assert choice.config() == {}
