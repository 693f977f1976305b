# SPDX-License-Identifier: AGPL-3.0-or-later
from __future__ import annotations

import pytest

from kyutai_stream import ConfigError
from live_transcription.demo.recogniser import choose_recogniser

URL = "ws://127.0.0.1:1/v1/stream"


def test_one_on_this_machine_needs_nothing() -> None:
    chosen = choose_recogniser("activity", None, {"PATH": "/bin"})
    assert not chosen.remote
    assert not chosen.transcribes
    assert chosen.environment == {"PATH": "/bin"}


def test_the_address_goes_to_the_exapp_and_so_do_keys() -> None:
    keys = {"MODAL_KEY": "wk-1", "MODAL_SECRET": "ws-hush"}
    chosen = choose_recogniser("modal", URL, keys)
    assert chosen.remote
    assert chosen.transcribes
    assert chosen.environment == {**keys, "LT_STT_URL": URL}
    assert "hush" not in repr(chosen)


def test_the_address_may_be_in_the_environment() -> None:
    chosen = choose_recogniser("moshi-server", None, {"LT_STT_URL": URL})
    assert chosen.remote
    workspace = {"MODAL_WORKSPACE": "w", "MODAL_KEY": "wk-1", "MODAL_SECRET": "ws-1"}
    assert choose_recogniser("modal", None, workspace).remote


def test_what_is_missing_is_said_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="url"):
        choose_recogniser("modal", None, {})
    with pytest.raises(ConfigError, match="key and secret"):
        choose_recogniser("modal", URL, {"MODAL_KEY": "wk-1"})
