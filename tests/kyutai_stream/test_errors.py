from __future__ import annotations

import pytest

from kyutai_stream import errors


def test_only_passing_troubles_are_retryable() -> None:
    tree = [getattr(errors, name) for name in errors.__all__]
    retryable = {kind.__name__ for kind in tree if kind.retryable}
    assert retryable == {"CapacityError", "ConnectFailed", "ConnectionLost"}
    assert all(issubclass(kind, errors.KyutaiStreamError) for kind in tree)


def test_the_base_is_abstract() -> None:
    with pytest.raises(TypeError):
        errors.KyutaiStreamError("no")


def test_capacity_says_how_long_to_wait() -> None:
    assert errors.CapacityError("full", retry_after_s=3.0).retry_after_s == 3.0
