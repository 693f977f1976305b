from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_gateway.config import (
    GatewaySettings,
    SettingsError,
    from_environment,
    markdown,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "gateway-settings.md"
ATTACHED = {
    "KYUTAI_GATEWAY_AUTH": "none",
    "KYUTAI_GATEWAY_ATTACH_URL": "ws://10.0.0.5:8080",
}
SETTINGS = [one for one in attrs.fields(GatewaySettings) if one.metadata]


def read(**changes: str) -> GatewaySettings:
    given = {f"KYUTAI_GATEWAY_{name}": value for name, value in changes.items()}
    return from_environment({**ATTACHED, **given})


def refused(**changes: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(**changes)
    return str(caught.value)


def test_reads_every_variable() -> None:
    settings = from_environment(
        {
            "KYUTAI_GATEWAY_HOST": "0.0.0.0",
            "KYUTAI_GATEWAY_PORT": "9000",
            "KYUTAI_GATEWAY_AUTH": "Pair",
            "KYUTAI_GATEWAY_KEY": "wk-1",
            "KYUTAI_GATEWAY_SECRET": " ws-2 ",
            "KYUTAI_GATEWAY_MAX_STREAM_S": "14340",
            "KYUTAI_GATEWAY_QUIET_TIMEOUT_S": "off",
            "KYUTAI_GATEWAY_MOSHI_SERVER": "/usr/local/bin/moshi-server",
            "KYUTAI_GATEWAY_LIBRARY_PATH": "/opt/a:/opt/b",
            "KYUTAI_GATEWAY_WEIGHTS_DIR": "/weights",
            "KYUTAI_GATEWAY_MODEL": "stt-2.6b-en",
            "KYUTAI_GATEWAY_SLOTS": "64",
            "KYUTAI_GATEWAY_TEMPERATURE": "0.25",
            "KYUTAI_GATEWAY_DTYPE": "",
        }
    )
    assert (settings.host, settings.port) == ("0.0.0.0", 9000)
    assert (settings.auth, settings.key, settings.secret) == ("pair", "wk-1", "ws-2")
    assert (settings.max_stream_s, settings.quiet_timeout_s) == (14340.0, math.inf)
    assert settings.moshi_server == Path("/usr/local/bin/moshi-server")
    assert settings.library_path == (Path("/opt/a"), Path("/opt/b"))
    assert (settings.model, settings.slots) == ("stt-2.6b-en", 64)
    assert (settings.temperature, settings.dtype) == (0.25, "auto")
    assert not settings.attached


def test_defaults_are_safe_and_never_cut_a_call() -> None:
    settings = read()
    assert settings.host == "127.0.0.1"
    assert settings.max_stream_s == math.inf
    assert math.isfinite(settings.idle_timeout_s)
    assert math.isfinite(settings.quiet_timeout_s)
    auth = next(one for one in SETTINGS if one.name == "auth")
    assert auth.default == "pair"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "http", "must be a whole number from 0 to 65535"),
        ("PORT", "-1", "must be a whole number"),
        ("PORT", "65536", "must be a whole number"),
        ("SLOTS", "0", "must be a whole number from 1 to 1024"),
        ("SLOTS", "²", "must be a whole number from 1 to 1024"),
        ("AUTH", "basic", "must be one of `pair`, `bearer`, `none`"),
        ("DEVICE", "mps", "must be one of `cuda`, `cpu`"),
        ("MODEL", "whisper", "must be one of `stt-1b-en_fr`, `stt-2.6b-en`"),
        ("TEMPERATURE", "nan", "must be a number from 0 to 2"),
        ("DRAIN_S", "inf", "must be seconds, from 0 to 86400"),
        ("IDLE_TIMEOUT_S", "never", "or `off`"),
        ("IDLE_TIMEOUT_S", "0", "or `off`"),
        ("HOST", "two words", "must be an IP address or a host name"),
        ("ATTACH_URL", "http://10.0.0.5", "must be an address such as `ws://"),
        ("LM_FILE", "relative/model", "must be the full path of a local file"),
        ("LM_FILE", "/weights/$MODEL/x", "would expand the `$`"),
        ("WEIGHTS_DIR", "hf://kyutai/stt-1b-en_fr-candle", "nothing is downloaded"),
        ("MOSHI_SERVER", "moshi-server", "must be the full path of a local file"),
        ("LIBRARY_PATH", "lib", "must be full paths of folders"),
    ],
)
def test_says_what_is_wrong(name: str, value: str, allowed: str) -> None:
    message = refused(**{name: value})
    assert message.startswith(f"KYUTAI_GATEWAY_{name} is '{value}': ")
    assert allowed in message
    assert "\n" not in message


def test_names_all_that_is_wrong() -> None:
    lines = refused(PORT="x", SLOTS="x", LOG_LEVEL="loud").splitlines()
    assert [line.split()[0] for line in lines] == [
        "KYUTAI_GATEWAY_PORT",
        "KYUTAI_GATEWAY_LOG_LEVEL",
        "KYUTAI_GATEWAY_SLOTS",
    ]


def test_an_unknown_variable_is_a_mistake() -> None:
    message = refused(BATCH_SIZE="8")
    assert message == "KYUTAI_GATEWAY_BATCH_SIZE is no setting"
    assert "did you mean KYUTAI_GATEWAY_SLOTS?" in refused(SLOT="8")


def test_explains_the_variables_of_kubernetes() -> None:
    assert "enableServiceLinks" in refused(PORT="tcp://10.0.0.1:8000")
    assert "enableServiceLinks" in refused(SERVICE_HOST="10.0.0.1")
    assert "enableServiceLinks" in refused(PORT_8000_TCP_ADDR="10.0.0.1")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"AUTH": "pair", "KEY": "k"}, "SECRET"),
        ({"AUTH": "pair", "SECRET": "s"}, "KEY"),
        ({"AUTH": "bearer", "KEY": "k", "SECRET": "s"}, "BEARER"),
        ({"ATTACH_URL": "", "WEIGHTS_DIR": "/w"}, "MOSHI_SERVER"),
        ({"ATTACH_URL": "", "MOSHI_SERVER": "/m", "LM_FILE": "/l"}, "WEIGHTS_DIR"),
    ],
)
def test_says_what_is_missing(changes: dict[str, str], name: str) -> None:
    assert refused(**changes).startswith(f"KYUTAI_GATEWAY_{name} is not set")


def test_single_files_do_without_a_folder() -> None:
    files = {"LM_FILE": "/l", "MIMI_FILE": "/m", "TOKENIZER_FILE": "/t"}
    assert read(ATTACH_URL="", MOSHI_SERVER="/s", **files).weights_dir is None


def test_secrets_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "bearer"
    file.write_text("s3cret\n")
    settings = read(AUTH="bearer", BEARER_FILE=str(file))
    assert settings.bearer == "s3cret"
    both = refused(AUTH="bearer", BEARER_FILE=str(file), BEARER="other")
    assert "both set" in both and "s3cret" not in both and "other" not in both
    missing = refused(BEARER_FILE=str(tmp_path / "nowhere"))
    assert "cannot be read" in missing
    # Only secrets have that form.
    assert "no setting" in refused(PORT_FILE=str(file))


def test_shows_no_secret() -> None:
    secrets = {
        "KEY": "aaa1",
        "SECRET": "bbb2",
        "BEARER": "ccc3",
        "ATTACH_API_KEY": "d4",
    }
    settings = from_environment(
        {
            **ATTACHED,
            **{f"KYUTAI_GATEWAY_{name}": value for name, value in secrets.items()},
            "OTHER": "eee5",
        }
    )
    for value in (*secrets.values(), "eee5"):
        assert value not in repr(settings)
    url = refused(ATTACH_URL="ws://user:geheim@host")
    assert "geheim" not in url and "without credentials" in url
    message = refused(KEY="geheim\x00")
    assert "geheim" not in message and message.startswith("KYUTAI_GATEWAY_KEY is a v")


def test_the_child_gets_no_keys() -> None:
    environ = {
        **ATTACHED,
        "KYUTAI_GATEWAY_KEY": "k",
        "MODAL_TOKEN_SECRET": "t",
        "CUDA_CACHE_PATH": "/cache",
        "PATH": "/bin",
    }
    child = from_environment(environ).child_environment
    assert child == {"CUDA_CACHE_PATH": "/cache", "PATH": "/bin"}


def test_values_given_by_code_are_checked_too() -> None:
    with pytest.raises(SettingsError, match="KYUTAI_GATEWAY_SLOTS is 0"):
        GatewaySettings(auth="none", attach_url="ws://a", slots=0)
    with pytest.raises(SettingsError, match="nothing is downloaded"):
        GatewaySettings(
            auth="none",
            moshi_server=Path("/m"),
            weights_dir="hf://kyutai/x",  # type: ignore[arg-type]  # what is tested
        )
    with pytest.raises(SettingsError, match="KYUTAI_GATEWAY_DRAIN_S"):
        attrs.evolve(read(), drain_s=math.nan)


def test_every_default_is_allowed() -> None:
    for one in SETTINGS:
        if one.default not in (None, "", ()):
            assert one.metadata["kind"].valid(one.default), one.name


@given(
    st.dictionaries(
        st.sampled_from([one.name.upper() for one in SETTINGS]),
        st.text(max_size=30),
        max_size=5,
    )
)
def test_any_environment_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        settings = read(**changes)
    except SettingsError as exc:
        assert "KYUTAI_GATEWAY_" in str(exc)
    else:
        assert isinstance(settings, GatewaySettings)


def test_the_documentation_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "run: python -m kyutai_gateway.config > docs/reference/gateway-settings.md"
    )


def test_the_documentation_has_every_variable() -> None:
    page = markdown()
    for one in SETTINGS:
        assert f"`KYUTAI_GATEWAY_{one.name.upper()}`" in page
    for line in page.splitlines():
        if line.startswith("|"):
            assert line.count("|") == 5, line


def test_prints_the_documentation() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kyutai_gateway.config"],
        capture_output=True,
        check=True,
        encoding="utf-8",
        env={"PYTHONUTF8": "1"},
    )
    assert done.stdout == markdown()
    assert done.stderr == ""
