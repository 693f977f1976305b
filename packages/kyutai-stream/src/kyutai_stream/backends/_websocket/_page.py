# SPDX-License-Identifier: MIT
"""Ask a server for a page beside its stream; only the status is of interest."""

from __future__ import annotations

import re
import ssl
from urllib.parse import SplitResult, urlsplit

import anyio
from anyio.abc import ByteStream

from ...errors import ConfigError, ConnectFailed
from ...wire.address import address_for_people
from ._dial import DialOptions

__all__ = ["page_status"]

LONGEST_LINE = 1024
"""Bytes of a status line; an honest one has some 30."""

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r\n]")


async def page_status(url: str, options: DialOptions, timeout_s: float) -> int:
    """Send one GET and read the status of the answer; follows no redirect.

    Goes directly, also where the options name a proxy.

    Args:
        url: `ws[s]://`, as for the stream; asked by `http[s]`.
        options: Headers and certificates of the stream.
        timeout_s: Seconds for all of it.

    Raises:
        ConfigError: If the name of the host is impossible.
        ConnectFailed: If there is no answer in time, or it is none of HTTP.
    """
    where = address_for_people(url)
    try:
        with anyio.fail_after(timeout_s):
            line = await _first_line(url, options)
    except TimeoutError as exc:
        raise ConnectFailed(f"{where} did not answer within {timeout_s:g} s") from exc
    except UnicodeError as exc:
        raise ConfigError(f"{where} is no name of a host") from exc
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError) as exc:
        # Not with the error's text: it may quote what was read.
        raise ConnectFailed(f"{where} cannot be reached: {type(exc).__name__}") from exc
    status = STATUS_LINE.match(line)
    if status is None:
        raise ConnectFailed(f"{where} does not answer as a web server does")
    return int(status[1])


async def _first_line(url: str, options: DialOptions) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "User-Agent: kyutai-stream",
        "Accept: */*",
        "Connection: close",
        *(f"{name}: {value}" for name, value in options.headers.items()),
    ]
    request = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")
    async with await _connect(parts, options) as stream:
        await stream.send(request)
        line = b""
        while b"\n" not in line and len(line) < LONGEST_LINE:
            line += await stream.receive()
        return line


async def _connect(parts: SplitResult, options: DialOptions) -> ByteStream:
    host = parts.hostname or ""
    if parts.scheme != "wss":
        return await anyio.connect_tcp(host, parts.port or 80)
    return await anyio.connect_tcp(
        host,
        parts.port or 443,
        ssl_context=options.tls or ssl.create_default_context(),
        tls_standard_compatible=False,
    )
