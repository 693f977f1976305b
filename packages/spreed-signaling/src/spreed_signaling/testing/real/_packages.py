# SPDX-License-Identifier: MIT
"""Get the servers from Debian without changing what the system installs from.

The signaling server is downloaded with a private apt state, so that a newer
suite can be asked without adding it to the system, and only unpacked: no user, no
service. Janus has library dependencies and is installed normally, with its service
kept from starting.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
from attrs import frozen

from ._errors import RealServersUnavailable
from ._locks import exclusive
from ._process import run_command

__all__ = ["HpbPackage", "JanusInstall", "default_cache", "find_hpb", "find_janus"]

Progress = Callable[[str], None]
"""Receives one line of text per step."""

HPB_PACKAGE = "nextcloud-spreed-signaling"
_HPB_BINARY = "usr/bin/nextcloud-spreed-signaling-server"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_POLICY = Path("/usr/sbin/policy-rc.d")
_DOWNLOAD_S = 300.0


@frozen(kw_only=True)
class HpbPackage:
    """An unpacked signaling server."""

    suite: str
    """The Debian suite it was taken from."""
    version: str
    """The Debian package's version."""
    binary: Path


@frozen(kw_only=True)
class JanusInstall:
    """An installed Janus."""

    binary: Path
    libraries: Path
    """Folder that holds `plugins` and `transports`."""


def default_cache() -> Path:
    """Return the folder in the user's cache that keeps downloaded servers."""
    return Path.home() / ".cache" / "spreed-signaling" / "servers"


def find_hpb(suite: str, cache: Path) -> HpbPackage | None:
    """Return the cached signaling server of a suite, None if there is none."""
    link = cache / "suites" / suite
    if not (link / _HPB_BINARY).exists():
        return None
    folder = link.resolve()
    _, _, version = folder.name.partition("_")
    return HpbPackage(suite=suite, version=version, binary=folder / _HPB_BINARY)


def find_janus() -> JanusInstall | None:
    """Return the installed Janus, None if it or its videoroom plugin is missing."""
    binary = shutil.which("janus")
    # The folder between differs by architecture (Debian's multiarch).
    plugins = sorted(Path("/usr/lib").glob("*/janus/plugins/libjanus_videoroom.so"))
    if binary is None or not plugins:
        return None
    return JanusInstall(binary=Path(binary), libraries=plugins[0].parent.parent)


def unavailable_reason() -> str | None:
    """Say in plain words why the real servers cannot run here, None if they can.

    Looks at this machine only; whether a download works is not tried.
    """
    if not sys.platform.startswith("linux"):
        return "they come from Debian packages, which need Linux"
    for tool in ("setpriv", "apt-get", "dpkg"):
        if shutil.which(tool) is None:
            return f"the command {tool} is missing (Debian or a derivative needed)"
    if find_janus() is None and os.geteuid() != 0:
        return "Janus is not installed; as root run: apt-get install janus"
    return None


async def fetch_hpb(suite: str, cache: Path, progress: Progress) -> HpbPackage:
    """Download and unpack the signaling server of a Debian suite.

    Safe against a second process: one downloads, the other waits and finds it. A
    cancelled or failed download leaves the cache as it was.

    Raises:
        RealServersUnavailable: If apt knows no Debian mirror, or the download or
            unpacking fails.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", suite):
        raise RealServersUnavailable(f"{suite!r} is not the name of a Debian suite")
    async with exclusive(cache / "lock", _DOWNLOAD_S):
        found = find_hpb(suite, cache)
        if found is not None:
            return found
        work = Path(tempfile.mkdtemp(prefix="download-", dir=cache))
        try:
            mirror = await _debian_mirror()
            progress(f"downloading {HPB_PACKAGE} of {suite} from {mirror}")
            _write_apt_state(suite, mirror, work)
            package = await _download(work, suite)
            await _unpack(package, work)
            _publish(suite, package, work, cache)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    found = find_hpb(suite, cache)
    if found is None:
        raise RealServersUnavailable(f"the package of {suite} holds no {_HPB_BINARY}")
    progress(f"{HPB_PACKAGE} {found.version} is in {cache}")
    return found


async def _debian_mirror() -> str:
    """Ask apt where this machine gets Debian from."""
    status, output = await run_command(
        "apt-get", "indextargets", "Created-By: Packages"
    )
    if status:
        raise RealServersUnavailable(f"apt-get indextargets failed: {output.strip()}")
    fallback: str | None = None
    for paragraph in output.split("\n\n"):
        pairs = re.findall(r"^([\w-]+): (.*)$", paragraph, re.MULTILINE)
        fields: dict[str, str] = dict(pairs)
        uri = fields.get("Repo-URI")
        if uri is None or "security" in fields.get("Release", ""):
            continue
        if fields.get("Origin") == "Debian":
            return uri
        # Before the first `apt-get update` the origin is not known yet.
        if "Origin" not in fields and uri.rstrip("/").endswith("/debian"):
            fallback = fallback or uri
    if fallback is None:
        raise RealServersUnavailable("apt has no Debian mirror among its sources")
    return fallback


def _write_apt_state(suite: str, mirror: str, work: Path) -> None:
    """Lay out an apt state that knows one suite and nothing of the system's."""
    if not _KEYRING.exists():
        raise RealServersUnavailable("package debian-archive-keyring is missing")
    for folder in ("lists/partial", "cache/archives/partial", "none", "deb"):
        (work / folder).mkdir(parents=True)
    (work / "sources.list").write_text(
        f"deb [signed-by={_KEYRING}] {mirror} {suite} main\n"
    )
    # A status file would let an installed older version win. Hooks of the system
    # (`#clear`) belong to its own state; package descriptions are not needed.
    (work / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{work}/sources.list";\n'
        f'Dir::Etc::SourceParts "{work}/none";\n'
        f'Dir::Etc::PreferencesParts "{work}/none";\n'
        f'Dir::State::Lists "{work}/lists";\n'
        'Dir::Etc::Preferences "/dev/null";\n'
        'Dir::State::Status "/dev/null";\n'
        # Mirrors lag behind; a signed list of last month serves tests as well.
        'Acquire::Check-Valid-Until "false";\n'
        f'Dir::Cache "{work}/cache";\n'
        'APT::Sandbox::User "root";\n'
        'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";\n'
        "#clear APT::Update::Pre-Invoke;\n"
        "#clear APT::Update::Post-Invoke;\n"
        "#clear APT::Update::Post-Invoke-Success;\n"
        "#clear Acquire::Languages;\n"
        'Acquire::Languages "none";\n'
    )


async def _download(work: Path, suite: str) -> Path:
    """Run apt with its private state; return the downloaded package."""
    # `env -C` because apt downloads into the working directory.
    apt = ["env", "-C", str(work / "deb"), "apt-get", "-q", "-c", f"{work}/apt.conf"]
    for arguments in (["update"], ["download", f"{HPB_PACKAGE}/{suite}"]):
        status, output = await run_command(*apt, *arguments, timeout_s=_DOWNLOAD_S)
        if status:
            raise RealServersUnavailable(
                f"apt-get {arguments[0]} for {suite} failed: {output.strip()[-500:]}"
            )
    packages = list((work / "deb").glob("*.deb"))
    if len(packages) != 1:
        raise RealServersUnavailable(f"{suite} has no package {HPB_PACKAGE}")
    return packages[0]


async def _unpack(package: Path, work: Path) -> None:
    status, output = await run_command(
        "dpkg", "-x", str(package), str(work / "root"), timeout_s=60.0
    )
    if status:
        raise RealServersUnavailable(f"dpkg -x failed: {output.strip()[-300:]}")


def _publish(suite: str, package: Path, work: Path, cache: Path) -> None:
    """Move the unpacked tree into the cache, visible only when complete."""
    # NAME_VERSION_ARCH.deb; apt writes the epoch's colon as %3a.
    version = package.name.split("_")[1].replace("%3a", ":")
    target = cache / "packages" / f"{HPB_PACKAGE}_{version}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        (work / "root").rename(target)
    link = work / "link"
    link.symlink_to(Path("..") / "packages" / target.name)
    (cache / "suites").mkdir(exist_ok=True)
    link.replace(cache / "suites" / suite)


async def install_janus(cache: Path, progress: Progress) -> JanusInstall:
    """Install Debian's Janus with the system's apt, without starting its service.

    Raises:
        RealServersUnavailable: If we are not root, or apt has no such package.
    """
    async with exclusive(cache / "lock", _DOWNLOAD_S):
        found = find_janus()
        if found is not None:
            return found
        if os.geteuid() != 0:
            raise RealServersUnavailable(
                "Janus is not installed; as root run: apt-get install janus"
            )
        progress("installing the Debian package janus (its service is not started)")
        # Shielded: a package manager stopped half-way leaves a broken system.
        with anyio.CancelScope(shield=True):
            await _install_without_service("janus")
    found = find_janus()
    if found is None:
        raise RealServersUnavailable("the package janus holds no videoroom plugin")
    return found


async def _install_without_service(package: str) -> None:
    install = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    install += ["install", "--no-install-recommends", package]
    with _services_held_back():
        status, output = await run_command(*install, timeout_s=_DOWNLOAD_S)
        if status:
            # Fresh containers come without package lists.
            await run_command("apt-get", "-q", "update", timeout_s=_DOWNLOAD_S)
            status, output = await run_command(*install, timeout_s=_DOWNLOAD_S)
    if status:
        raise RealServersUnavailable(
            f"apt-get install {package} failed: {output.strip()[-500:]}"
        )


@contextlib.contextmanager
def _services_held_back() -> Iterator[None]:
    """Use Debian's way to say that packages must not start their services."""
    if _POLICY.exists():
        # The machine has a policy of its own; it stays as it is.
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
