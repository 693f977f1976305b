"""What is public, and what importing it costs."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spreed_signaling
import spreed_signaling.media
from spreed_signaling import SignalingError, errors

PACKAGE = Path(spreed_signaling.__file__).parent
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "spreed_signaling"

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], "spreed_signaling.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", ["spreed_signaling", *MODULES])
def test_public_names_exist_and_are_said_once(name: str) -> None:
    module = importlib.import_module(name)
    names = list(module.__all__)
    assert len(set(names)) == len(names)
    for public in names:
        assert not public.startswith("_")
        assert hasattr(module, public)


@pytest.mark.parametrize("name", ["spreed_signaling", "spreed_signaling.media"])
def test_a_package_exports_exactly_what_it_imports(name: str) -> None:
    module = importlib.import_module(name)
    imported = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and not isinstance(value, type(module))
    }
    assert imported == set(module.__all__)
    assert list(module.__all__) == sorted(module.__all__, key=_as_ruff_sorts)


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def test_every_error_is_in_the_tree_and_exported() -> None:
    for name in errors.__all__:
        value = getattr(errors, name)
        if isinstance(value, type):
            assert issubclass(value, SignalingError)
            assert name in spreed_signaling.__all__
            assert errors.__doc__ is not None and name in errors.__doc__


def test_the_reference_names_what_is_public() -> None:
    """A page shows a whole module, or the names one by one."""
    text = "".join(page.read_text() for page in DOCS.glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    for module in (spreed_signaling, spreed_signaling.media):
        for name in module.__all__:
            value = getattr(module, name)
            if not isinstance(value, type) and not callable(value):
                continue
            home = getattr(value, "__module__", module.__name__)
            places = {home, f"{home}.{name}", f"{module.__name__}.{name}"}
            package = home.rpartition(".")[0]
            holder = importlib.import_module(package or home)
            if name in getattr(holder, "__all__", ()):
                # The page of a package shows what its modules give it.
                places.add(holder.__name__)
            assert places & shown, f"{name} of {home} is on no page"


def test_importing_the_package_loads_no_media() -> None:
    heavy = ["aiortc", "av", "numpy", "httpx", "starlette", "uvicorn"]
    program = (
        "import sys, spreed_signaling\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
