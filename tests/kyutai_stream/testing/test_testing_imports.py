from __future__ import annotations

import subprocess
import sys

import pytest

import kyutai_stream.testing

# Stands for an installation without the extra.
WITHOUT = """
import sys
for name in ("websockets", "msgpack", "av", "torch"):
    sys.modules[name] = None
import kyutai_stream.testing as kit
kit.run_virtual
kit.speak("alpha")
try:
    from kyutai_stream.testing import FakeMoshiServer
except ImportError as exc:
    print(exc)
"""


def test_the_kit_loads_without_its_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    assert "kyutai-stream[testing]" in done.stdout


def test_lazy_names_are_there() -> None:
    for name in kyutai_stream.testing.__all__:
        assert getattr(kyutai_stream.testing, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        kyutai_stream.testing.nonsense  # noqa: B018  # the access is the test
