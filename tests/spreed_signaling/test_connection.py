"""Opening and keeping one WebSocket: addresses, TLS, reasons in plain words."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve

from spreed_signaling import ConnectFailed, TransportOptions, UsageError
from spreed_signaling.connection import close_connection, open_connection, websocket_url

from .harness import free_port


class TestUrl:
    @pytest.mark.parametrize(
        ("given", "used"),
        [
            ("https://talk.example", "wss://talk.example/spreed"),
            ("https://talk.example/", "wss://talk.example/spreed"),
            ("https://talk.example/hpb/", "wss://talk.example/hpb/spreed"),
            ("https://talk.example/hpb/spreed", "wss://talk.example/hpb/spreed"),
            ("wss://talk.example:8443/spreed/", "wss://talk.example:8443/spreed"),
            ("http://[::1]:8080", "ws://[::1]:8080/spreed"),
            (" ws://talk.example?x=1#y ", "ws://talk.example/spreed"),
        ],
    )
    def test_every_usual_form_is_taken(self, given: str, used: str) -> None:
        assert websocket_url(given) == used

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "talk.example",
            "ftp://talk.example",
            "https://",
            "https://h:port",
            "https://h:99999",
            "https://[::1",
            "https://:8080",
            "https://h:0",
        ],
    )
    def test_anything_else_is_our_callers_mistake(self, given: str) -> None:
        with pytest.raises(UsageError, match="not the URL of a signaling server"):
            websocket_url(given)


@asynccontextmanager
async def tcp_server(answer: bytes | None) -> AsyncIterator[str]:
    """A server that answers anything with these bytes, or (None) not at all."""

    async def handle(stream: SocketStream) -> None:
        async with stream:
            try:
                await stream.receive()
                if answer is None:
                    await anyio.sleep_forever()
                await stream.send(answer or b"")
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, handle)
        port = listener.extra_attributes[anyio.abc.SocketAttribute.local_port]()
        yield f"ws://127.0.0.1:{port}/spreed"
        tasks.cancel_scope.cancel()


async def reason_of(url: str, open_timeout_s: float = 10.0) -> str:
    with anyio.fail_after(10), pytest.raises(ConnectFailed) as caught:
        await open_connection(url, TransportOptions(open_timeout_s=open_timeout_s))
    assert caught.value.url == url
    assert caught.value.retryable
    return caught.value.reason


class TestReasons:
    async def test_nobody_listens(self) -> None:
        url = f"ws://127.0.0.1:{free_port()}/spreed"
        assert await reason_of(url) == "connection refused"

    async def test_nobody_listens_on_any_address_of_a_name(self) -> None:
        url = f"ws://localhost:{free_port()}/spreed"
        assert await reason_of(url) == "connection refused"

    async def test_unknown_host(self) -> None:
        reason = await reason_of("ws://no-such-host.invalid/spreed")
        assert reason == "the host name does not resolve"

    async def test_wrong_path(self) -> None:
        answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        async with tcp_server(answer) as url:
            assert "HTTP 404" in await reason_of(url)

    async def test_proxy_without_its_server(self) -> None:
        answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
        async with tcp_server(answer) as url:
            assert "not running" in await reason_of(url)

    @pytest.mark.parametrize("answer", [b"", b"220 smtp ready\r\n", b"\x00" * 50])
    async def test_something_else_listens(self, answer: bytes) -> None:
        async with tcp_server(answer) as url:
            reason = await reason_of(url)
            assert reason.startswith("it does not answer as a WebSocket server")

    async def test_redirect_that_cannot_be_followed(self) -> None:
        answer = (
            b"HTTP/1.1 302 Found\r\nLocation: ftp://nowhere/\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        async with tcp_server(answer) as url:
            assert await reason_of(url)

    async def test_no_answer(self) -> None:
        async with tcp_server(None) as url:
            assert await reason_of(url, open_timeout_s=0.3) == "no answer in time"

    async def test_tls_where_there_is_none(self) -> None:
        async with tcp_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
            reason = await reason_of(url.replace("ws:", "wss:"))
            assert reason.startswith("TLS failed")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "localhost.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


class TestTls:
    @pytest.fixture
    async def tls_url(self, certificate: Path) -> AsyncIterator[str]:
        async def handle(connection: ServerConnection) -> None:
            await connection.wait_closed()

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        async with serve(handle, "127.0.0.1", 0, ssl=context) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            yield f"wss://localhost:{port}/spreed"

    async def test_a_certificate_nobody_vouches_for_is_refused(
        self, tls_url: str
    ) -> None:
        reason = await reason_of(tls_url)
        assert reason.startswith("the TLS certificate is not trusted")
        assert "self-signed" in reason

    async def test_a_certificate_of_our_own_can_be_trusted(
        self, tls_url: str, certificate: Path
    ) -> None:
        context = ssl.create_default_context(cafile=certificate)
        connection = await open_connection(tls_url, TransportOptions(ssl=context))
        await close_connection(connection)

    async def test_the_context_does_not_disturb_plain_connections(
        self, certificate: Path
    ) -> None:
        async def handle(connection: ServerConnection) -> None:
            await connection.wait_closed()

        context = ssl.create_default_context(cafile=certificate)
        async with serve(handle, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            url = f"ws://127.0.0.1:{port}/spreed"
            connection = await open_connection(url, TransportOptions(ssl=context))
            await close_connection(connection)


async def test_closing_is_bounded_when_the_peer_is_silent() -> None:
    """The handshake succeeds, then nothing is ever read or written again."""
    async with serve(_ignore, "127.0.0.1", 0, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        connection = await open_connection(
            f"ws://127.0.0.1:{port}/spreed", TransportOptions(close_timeout_s=0.2)
        )
        connection.transport.pause_reading()
        with anyio.fail_after(5):
            await close_connection(connection)


async def _ignore(connection: ServerConnection) -> None:
    await connection.wait_closed()
