# SPDX-License-Identifier: MIT
"""A network of its own for Janus.

Janus never offers a loopback address for media, so it needs another one. It gets
a network namespace joined to ours by a pair of virtual interfaces. The namespace
has no name: it exists as long as a process in it does, and the interfaces go with
it, so that nothing is left even after SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from pathlib import Path

import anyio

from ...errors import SignalingError
from ._errors import RealServersUnavailable
from ._process import ServerProcess, run_command

__all__ = [
    "HostNetwork",
    "JanusNetwork",
    "NamespaceNetwork",
    "free_port",
    "open_network",
]

_NAMESPACE_WS_PORT = 8188


class JanusNetwork:
    """Where Janus runs and how it is reached; see the two kinds below."""

    kind = ""
    media_address = ""
    """Address that Janus offers for media."""
    host_address = ""
    """Our own address from which it is reached."""
    ws_address = ""
    """Address of Janus's WebSocket API."""
    ws_port = 0
    rtp_ports = (20000, 20999)

    def command(self, *command: str) -> list[str]:
        """Return `command` such that it runs in this network."""
        return list(command)

    async def close(self) -> None:
        """Give everything back."""


class HostNetwork(JanusNetwork):
    """The machine's own non-loopback IPv4 address, where namespaces are not allowed."""

    kind = "host"

    def __init__(self, address: str) -> None:
        self.media_address = self.host_address = address
        self.ws_address = "127.0.0.1"
        self.ws_port = free_port()
        # 200 ports are plenty; a random start keeps two runs apart.
        first = 20000 + 200 * secrets.randbelow(50)
        self.rtp_ports = (first, first + 199)


class NamespaceNetwork(JanusNetwork):
    """An unnamed network namespace with a link to ours."""

    kind = "namespace"

    def __init__(self, log: Path) -> None:
        subnet = secrets.randbelow(2**15) * 4
        high, low = 18 + (subnet >> 16), subnet & 0xFFFF
        # 198.18.0.0/15 is set aside for tests of network devices: no real network
        # uses it, and a /30 has exactly two hosts.
        prefix = f"198.{high}.{low >> 8}"
        self.host_address = f"{prefix}.{(low & 0xFF) + 1}"
        self.media_address = self.ws_address = f"{prefix}.{(low & 0xFF) + 2}"
        self.ws_port = _NAMESPACE_WS_PORT
        self.interface = f"hpb{secrets.token_hex(5)}"
        self._holder = ServerProcess(
            "network namespace", ["unshare", "--net", "sleep", "infinity"], log
        )

    def command(self, *command: str) -> list[str]:
        """Return `command` such that it runs inside the namespace."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--", *command]

    async def open(self) -> None:
        """Create namespace and link.

        Raises:
            RealServersUnavailable: If the system does not allow it.
        """
        ours = os.stat("/proc/self/ns/net").st_ino

        async def entered() -> bool:
            with contextlib.suppress(OSError):
                return os.stat(f"/proc/{self._holder.pid}/ns/net").st_ino != ours
            return False

        await self._holder.start()
        await self._holder.wait_ready(entered, 5.0)
        inside = f"{self.interface}j"
        await _ip(
            f"link add {self.interface} type veth peer name {inside}"
            f" netns {self._holder.pid}",
            f"addr add {self.host_address}/30 dev {self.interface}",
            f"link set {self.interface} up",
        )
        await _ip(
            "link set lo up",
            f"addr add {self.media_address}/30 dev {inside}",
            f"link set {inside} up",
            # For clients that offer other addresses of this machine.
            f"route add default via {self.host_address}",
            prefix=self.command(),
        )

    async def close(self) -> None:
        """End the namespace; the kernel removes the link with it."""
        await self._holder.stop(kill=True)
        # The kernel takes a namespace apart in the background; without this the
        # interface would still be seen for some milliseconds.
        with anyio.CancelScope(shield=True):
            await run_command("ip", "link", "delete", self.interface)


async def _ip(*lines: str, prefix: list[str] | None = None) -> None:
    status, output = await run_command(
        *(prefix or []), "ip", "-batch", "-", stdin="\n".join(lines) + "\n"
    )
    if status:
        raise RealServersUnavailable(f"`ip` failed: {output.strip()[-300:]}")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now and stays so over restarts.

    Taken from below the range that the system gives to outgoing connections: a
    client that retries while the server is down could otherwise be given the
    server's own port, or even connect to itself.
    """
    for _ in range(100):
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise RealServersUnavailable("no free TCP port found on 127.0.0.1")


def _host_ipv4() -> str | None:
    """Return the address this machine uses towards others; sends no packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("198.18.0.1", 9))
        except OSError:
            return None
        address = str(sock.getsockname()[0])
    return None if address.startswith("127.") else address


async def open_network(log: Path) -> JanusNetwork:
    """Return a namespace where that is possible, else the machine's own address.

    Raises:
        RealServersUnavailable: If neither works.
    """
    namespace = NamespaceNetwork(log)
    try:
        await namespace.open()
    except SignalingError as exc:
        await namespace.close()
        address = _host_ipv4()
        if address is None:
            raise RealServersUnavailable(
                "Janus needs a network namespace or a non-loopback IPv4 address,"
                f" and this machine offers neither ({exc})"
            ) from exc
        return HostNetwork(address)
    except BaseException:
        await namespace.close()
        raise
    return namespace
