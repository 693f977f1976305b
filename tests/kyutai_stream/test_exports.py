from __future__ import annotations

import importlib
import pkgutil

import pytest

import kyutai_stream

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(kyutai_stream.__path__, "kyutai_stream.")
    if not module.name.rpartition(".")[2].startswith("_")
)
# A program, not a library.
PROGRAMS = {"kyutai_stream.backends.pocketsphinx.worker"}
# Packages that only gather others.
EMPTY = {"kyutai_stream.wire", "kyutai_stream.backends"}


@pytest.mark.parametrize("name", sorted(set(MODULES) - PROGRAMS - EMPTY))
def test_every_public_name_exists(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None


def test_the_top_level_is_what_it_imports() -> None:
    public = {
        name
        for name, value in vars(kyutai_stream).items()
        if not name.startswith("_") and hasattr(value, "__module__")
    }
    assert public - {"annotations"} <= set(kyutai_stream.__all__)
    assert sorted(kyutai_stream.__all__) == list(kyutai_stream.__all__)
