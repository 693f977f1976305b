from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.errors import ConfigError
from kyutai_stream.wire.address import (
    address_for_people,
    websocket_url,
    websocket_urls,
)


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("ws://host:8080", "ws://host:8080/p"),
        (" http://host/ ", "ws://host/p"),
        ("https://host/other?x=1", "wss://host/other?x=1"),
        ("WSS://[::1]:9/", "wss://[::1]:9/p"),
    ],
)
def test_accepted(given_url: str, expected: str) -> None:
    assert websocket_url(given_url, default_path="/p") == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8080",
        "localhost",
        "ws://",
        "ws://host:port",
        "ws://host:99999",
        "ws://a b/",
        "ws://[::1",
        "ftp://host",
        "ws://user:hush@host",
        "ws://hush@host",
        "ws://user:hush@",
        "ws://host/p?auth_id=hush",
        "ws://host/p?Token=hush",
        "ws://host/p#hush",
    ],
)
def test_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        websocket_url(url, default_path="/p")
    assert "hush" not in str(caught.value)


def test_several() -> None:
    expected = ("ws://a/p", "ws://b/p")
    assert websocket_urls("ws://a, ws://b,,ws://a/", default_path="/p") == expected
    assert websocket_urls(["ws://a", "ws://b"], default_path="/p") == expected
    with pytest.raises(ConfigError):
        websocket_urls([], default_path="/p")
    with pytest.raises(ConfigError):
        websocket_urls(" , ", default_path="/p")


def test_what_people_see() -> None:
    shown = address_for_people("wss://user:pw@host:1/path?key=x#f")
    assert shown == "wss://host:1/path"


@given(st.text(max_size=30), st.sampled_from(["", "ws://", "https://", "ws://[", "//"]))
def test_anything_else_is_a_config_error(rest: str, start: str) -> None:
    try:
        url = websocket_url(start + rest, default_path="/p")
    except ConfigError:
        return
    assert url.startswith(("ws://", "wss://"))
    assert websocket_url(url, default_path="/q") == url
