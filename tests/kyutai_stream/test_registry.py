from __future__ import annotations

import logging
from importlib import metadata
from typing import Any

import pytest

from kyutai_stream import BackendUnavailable, ConfigError
from kyutai_stream.registry import available_backends, get_backend
from kyutai_stream.testing import ScriptedBackend

GROUP = "kyutai_stream.backends"


class _Distribution(metadata.Distribution):
    def __init__(self, name: str) -> None:
        self._name = name

    def read_text(self, filename: str) -> str | None:
        return f"Name: {self._name}\nVersion: 1\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise NotImplementedError


def entry(name: str, value: str, distribution: str = "plug-in") -> metadata.EntryPoint:
    point = metadata.EntryPoint(name=name, value=value, group=GROUP)
    # importlib.metadata attaches the distribution in this private way itself.
    vars(point)["dist"] = _Distribution(distribution)
    return point


def broken_backend() -> None:
    raise RuntimeError("no such device")


def strange_backend() -> object:
    return object()


def needy_backend(*, url: str) -> ScriptedBackend:
    return ScriptedBackend()


SCRIPTED = entry("scripted", "kyutai_stream.testing:ScriptedBackend")
MISSING = entry("missing", "no_such_module_anywhere:Backend")
BROKEN = entry("broken", f"{__name__}:broken_backend")
STRANGE = entry("strange", f"{__name__}:strange_backend")
NEEDY = entry("needy", f"{__name__}:needy_backend")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets entry points name this file, which pytest imports under a long name."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.delenv("KYUTAI_STREAM_BACKEND", raising=False)


class TestChoice:
    def test_explicit_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KYUTAI_STREAM_BACKEND", "nonsense")
        assert get_backend("activity").name == "activity"

    def test_then_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KYUTAI_STREAM_BACKEND", "pocketsphinx")
        assert get_backend().name == "pocketsphinx"

    def test_else_activity_with_one_line_of_advice(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            assert get_backend().name == "activity"
        (record,) = caplog.records
        assert "KYUTAI_STREAM_BACKEND" in record.getMessage()

    def test_settings_reach_the_backend(self) -> None:
        assert get_backend("activity", caption="[speaks]").name == "activity"
        with pytest.raises(ConfigError, match="colour"):
            get_backend("activity", colour="red")

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(ConfigError, match=r"'nonsense'.*activity.*pocketsphinx"):
            get_backend("nonsense")
        with pytest.raises(ConfigError, match="none"):
            get_backend("nonsense", entry_points=[])

    def test_a_name_clash_names_both_distributions(self) -> None:
        other = entry("scripted", "x:Y", "other-plug-in")
        with pytest.raises(ConfigError, match="other-plug-in and plug-in"):
            get_backend("scripted", entry_points=[SCRIPTED, other])


class TestBrokenPlugIns:
    @pytest.mark.parametrize(
        ("point", "text"),
        [
            (MISSING, "no_such_module_anywhere"),
            (BROKEN, "no such device"),
            (STRANGE, "contract"),
        ],
    )
    def test_they_are_unavailable(self, point: metadata.EntryPoint, text: str) -> None:
        with pytest.raises(BackendUnavailable, match=text):
            get_backend(point.name, entry_points=[point])

    def test_they_are_listed_and_do_not_disturb_the_others(self) -> None:
        points = [SCRIPTED, MISSING, BROKEN, STRANGE, NEEDY]
        infos = {info.name: info for info in available_backends(entry_points=points)}
        assert set(infos) == {"scripted", "missing", "broken", "strange", "needy"}
        assert infos["scripted"].error is None
        assert infos["scripted"].capabilities is not None
        errors = {name: info.error for name, info in infos.items() if info.error}
        assert set(errors) == {"missing", "broken", "strange", "needy"}
        assert "url" in errors["needy"]
        assert infos["broken"].distribution == "plug-in"

    def test_a_clash_is_listed_for_each(self) -> None:
        other = entry("scripted", "x:Y", "other-plug-in")
        infos = available_backends(entry_points=[SCRIPTED, other])
        assert [info.distribution for info in infos] == ["other-plug-in", "plug-in"]
        assert all("claimed by" in (info.error or "") for info in infos)


def test_the_installed_ones_work() -> None:
    infos = {info.name: info for info in available_backends()}
    assert infos["activity"].error is None
    assert infos["pocketsphinx"].error is None
    assert "LOW ACCURACY" in infos["pocketsphinx"].description
    assert infos["activity"].distribution == "kyutai-stream"
