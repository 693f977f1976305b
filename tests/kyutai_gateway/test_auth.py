"""Who may pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_gateway.auth import Credentials

PAIR = Credentials(mode="pair", key="wk-a", secret="ws-b")
GOOD = [(b"modal-key", b"wk-a"), (b"modal-secret", b"ws-b")]
TOKEN = Credentials(mode="bearer", bearer="t\u00f6ken")


def test_pair() -> None:
    assert PAIR.admit(GOOD)
    assert PAIR.admit([(b"Modal-Key", b"wk-a"), (b"MODAL-SECRET", b"ws-b")])
    assert PAIR.admit([(b"authorization", b"Bearer wk-a.ws-b")])
    assert not PAIR.admit([])
    assert not PAIR.admit(GOOD[:1])
    assert not PAIR.admit([(b"modal-key", b"ws-b"), (b"modal-secret", b"wk-a")])


def test_twice_could_be_either() -> None:
    assert not PAIR.admit([*GOOD, (b"modal-key", b"wk-x")])
    assert not PAIR.admit([(b"modal-key", b"wk-x"), *GOOD])


def test_bearer() -> None:
    assert TOKEN.admit([(b"authorization", "bearer t\u00f6ken".encode())])
    assert not TOKEN.admit([(b"authorization", "Basic t\u00f6ken".encode())])
    assert not TOKEN.admit(GOOD)


def test_none_lets_everybody_in() -> None:
    assert Credentials(mode="none").admit([])


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_nothing_strange_passes(headers: list[tuple[bytes, bytes]]) -> None:
    assert not PAIR.admit(headers)


@pytest.mark.parametrize(
    "given",
    [{"mode": "pair"}, {"mode": "pair", "key": "x"}, {"mode": "bearer"}],
)
def test_missing_secrets_are_no_open_door(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="needs a"):
        Credentials(**given)  # type: ignore[arg-type]  # the modes are checked


def test_no_secret_is_shown() -> None:
    assert "wk-a" not in repr(PAIR) and "ws-b" not in repr(PAIR)
    assert "ken" not in repr(TOKEN).replace("bearer", "")
