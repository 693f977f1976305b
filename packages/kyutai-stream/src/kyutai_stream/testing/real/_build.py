# SPDX-License-Identifier: MIT
"""Find moshi-server in the user's cache, or build it there with cargo."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
from attrs import frozen

from ._errors import MoshiServerUnavailable
from ._locks import exclusive
from ._process import ServerProcess, probe, tail
from ._python import EmbeddedPython, find_python

__all__ = [
    "VERSION",
    "Progress",
    "ServerBinary",
    "build_server",
    "default_cache",
    "find_server",
    "missing_tools",
    "server_command",
]

VERSION = "0.6.4"
"""The version of moshi-server that is built, from Rust's package registry."""

BUILD_TIMEOUT_S = 3600.0

Progress = Callable[[str], None]
"""Called with one line of text per step that does something."""

_BINARY = "moshi-server"

_TOOLS = {
    "cargo": "a recent Rust, from rustup; 1.95 works",
    "cmake": "Debian package cmake",
    "g++": "Debian package g++",
    "pkg-config": "Debian package pkg-config",
    "git": "Debian package git",
    "setpriv": "Debian package util-linux",
}
_LIBRARIES = {"opus": "libopus-dev", "openssl": "libssl-dev"}


@frozen(kw_only=True)
class ServerBinary:
    """A built server."""

    path: Path
    """Full path; the Python package `moshi` installs a script of the same name."""
    library_folder: str
    """Where the shared library of its Python is."""


def default_cache() -> Path:
    """Return the folder in the user's cache that keeps server and weights."""
    return Path.home() / ".cache" / "kyutai-stream" / "moshi-server"


def find_server(cache: Path) -> ServerBinary | None:
    """Return the built server if it is there and starts, else None; blocks."""
    python = find_python()
    if python is None:
        return None
    path = _folder(cache, python) / _BINARY
    if not path.exists():
        return None
    binary = ServerBinary(path=path, library_folder=python.library_folder)
    status, _ = probe(*server_command(binary, "--help"))
    return binary if status == 0 else None


def server_command(binary: ServerBinary, *arguments: str) -> list[str]:
    """Return the command that runs the server with its Python's library."""
    return [
        "env",
        f"LD_LIBRARY_PATH={binary.library_folder}",
        "NO_COLOR=1",
        str(binary.path),
        *arguments,
    ]


def missing_tools() -> str | None:
    """Say in plain words what a build lacks here, None if nothing; blocks."""
    if platform.system() != "Linux":
        return "moshi-server is run only on Linux here"
    missing = [
        f"{tool} ({where})"
        for tool, where in _TOOLS.items()
        if shutil.which(tool) is None
    ]
    if shutil.which("pkg-config") is not None:
        for library, package in _LIBRARIES.items():
            if probe("pkg-config", "--exists", library)[0] != 0:
                missing.append(f"{library} (Debian package {package})")
    if find_python() is None:
        missing.append("a Python up to 3.13 with its shared library (python3-dev)")
    return f"missing: {', '.join(missing)}" if missing else None


async def build_server(cache: Path, progress: Progress) -> ServerBinary:
    """Build the server unless it is there; takes some 10 minutes on two cores.

    Two processes do not build at once, an interrupted build continues where it
    was, and only a server that starts is put in place.

    Raises:
        MoshiServerUnavailable: If tools are missing or the build fails.
    """
    found = await anyio.to_thread.run_sync(find_server, cache)
    if found is not None:
        return found
    reason = await anyio.to_thread.run_sync(missing_tools)
    python = await anyio.to_thread.run_sync(find_python)
    if reason is not None or python is None:
        raise MoshiServerUnavailable(reason or "no Python to build against")
    async with exclusive(cache / "build.lock", BUILD_TIMEOUT_S):
        # Another process may have built it meanwhile.
        found = await anyio.to_thread.run_sync(find_server, cache)
        if found is None:
            found = await _build(cache, python, progress)
    return found


async def _build(
    cache: Path, python: EmbeddedPython, progress: Progress
) -> ServerBinary:
    folder = _folder(cache, python)
    work = folder.with_name(f"{folder.name}.build")
    work.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    log.unlink(missing_ok=True)
    progress(f"building moshi-server {VERSION} (some 10 minutes); log: {log}")
    cargo = ServerProcess(_cargo_command(work, python), log)
    await cargo.start()
    try:
        status = await cargo.wait(BUILD_TIMEOUT_S)
    finally:
        await cargo.stop(kill=True)
    if status != 0:
        how = "took too long" if status is None else f"failed with status {status}"
        raise MoshiServerUnavailable(f"cargo {how}; end of {log}:\n{tail(log)}")
    return await anyio.to_thread.run_sync(_put_in_place, work, folder, python)


def _cargo_command(work: Path, python: EmbeddedPython) -> list[str]:
    environment = {
        # The interpreter must be the one whose library is found at run time.
        "PYO3_PYTHON": python.executable,
        # The bundled sentencepiece forgets an include that newer compilers want.
        "CXXFLAGS": "-include cstdint",
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        "CARGO_TARGET_DIR": str(work / "target"),
    }
    target = _target_cpu()
    if target is not None:
        # candle has fast vector code only for what the compiler may assume.
        environment["RUSTFLAGS"] = f"-C target-cpu={target}"
    return [
        # Not in the way of whatever else runs here.
        *("nice", "-n", "10", "env"),
        *(f"{name}={value}" for name, value in environment.items()),
        *("cargo", "install", f"moshi-server@{VERSION}", "--locked", "--force"),
        *("--root", str(work / "root")),
    ]


def _put_in_place(work: Path, folder: Path, python: EmbeddedPython) -> ServerBinary:
    """Move a server that starts to its place, and remove the rest of the build."""
    built = work / "root" / "bin"
    binary = ServerBinary(path=built / _BINARY, library_folder=python.library_folder)
    status, output = probe(*server_command(binary, "--help"))
    if status != 0:
        raise MoshiServerUnavailable(f"it was built but does not start: {output}")
    shutil.rmtree(folder, ignore_errors=True)
    built.rename(folder)
    shutil.rmtree(work, ignore_errors=True)
    return ServerBinary(path=folder / _BINARY, library_folder=python.library_folder)


def _folder(cache: Path, python: EmbeddedPython) -> Path:
    parts = [VERSION, python.tag, _target_cpu() or platform.machine()]
    return cache / "-".join(parts)


def _target_cpu() -> str | None:
    """Processor to build for: with AVX2 and FMA where they are, portable else."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return None
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    wanted = {"avx2", "fma", "bmi2", "f16c", "movbe"}
    return "x86-64-v3" if wanted <= set(flags.split()) else None
