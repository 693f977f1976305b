"""What the websocket backends share, where a backend's own tests do not reach."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve

from kyutai_stream.backends._websocket import DialOptions, dial
from kyutai_stream.errors import ConfigError, ConnectFailed, KyutaiStreamError

Serve = Callable[..., Awaitable[str]]


async def quiet(connection: ServerConnection) -> None:
    await connection.wait_closed()


def options(**more: object) -> DialOptions:
    return DialOptions(headers={"X-Key": "k"}, open_timeout_s=5, **more)  # type: ignore[arg-type]  # as each test needs


async def opened(url: str, dialled: DialOptions) -> bool:
    connection = await dial(url, dialled)
    await connection.close()
    return True


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate of 127.0.0.1, signed by itself."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


async def test_tls_is_checked(certificate: Path) -> None:
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with serve(quiet, "127.0.0.1", 0, ssl=own) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"wss://127.0.0.1:{port}"
        assert await opened(url, options(tls=trusting))
        with pytest.raises(ConnectFailed, match="certificate"):
            await opened(url, options())


async def test_a_tls_context_does_not_hinder_plain_addresses(scripted: Serve) -> None:
    tls = ssl.create_default_context()
    assert await opened(await scripted(quiet), options(tls=tls))


async def test_proxies_of_the_environment_are_used_when_asked_for(
    scripted: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"http://127.0.0.1:{server.getsockname()[1]}"
    for name in ("ws_proxy", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, dead)
    monkeypatch.setenv("no_proxy", "")
    url = await scripted(quiet)
    assert await opened(url, options())
    for proxy in (True, dead):
        with pytest.raises(ConnectFailed):
            await opened(url, options(proxy=proxy))


@pytest.mark.parametrize("proxy", ["nonsense", "ftp://host"])
async def test_a_proxy_that_is_none(scripted: Serve, proxy: str) -> None:
    with pytest.raises(ConfigError, match="proxy"):
        await opened(await scripted(quiet), options(proxy=proxy))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01\x00\xff" + bytes(300),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
    ids=range(8),
)
async def test_servers_that_are_no_websocket(answer: bytes) -> None:
    async def talk(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            if answer:
                await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, talk)
        with pytest.raises(KyutaiStreamError) as caught:
            await opened(f"ws://127.0.0.1:{port}", options())
        tasks.cancel_scope.cancel()
    assert isinstance(caught.value, ConnectFailed | ConfigError)


def test_keys_are_not_shown() -> None:
    shown = repr(options(proxy="http://user:hush@proxy"))
    assert "hush" not in shown and "X-Key" not in shown
