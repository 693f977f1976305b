# SPDX-License-Identifier: MIT
"""From the socket to the handler at once, past aiortc's queue and task.

aiortc puts each datagram into a queue, wakes a task, decrypts, and builds objects that
nobody here reads: together more than decoding costs. The shortcut stands where
datagrams come out of ICE. It carries what it knows for certain, plain Opus packets of
streams that aiortc itself has assigned to this receiver before, and leaves everything
else where it was: the first packets of a stream, RTCP, DTLS, video, odd headers.
Statistics behind receiver reports are aiortc's own objects, fed as aiortc would.

It is checked like the tap (`why_no_shortcut`); without it the tap works alone. It also
keeps datagrams away from aiortc on which it closes the whole connection: empty ones,
ones that are too long, and malformed header extensions.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Collection
from typing import Any

import pylibsrtp
from aioice.ice import StunProtocol
from aiortc import RTCRtpReceiver
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpreceiver import StreamStatistics

from .rtp.packet import HEADER_BYTES, AudioRtp, is_plain, read_audio_rtp

__all__ = ["Shortcut", "open_shortcut", "why_no_shortcut"]

_log = logging.getLogger("spreed_signaling.media")

_STREAMS = "_RTCRtpReceiver__remote_streams"

_LONGEST = 1_500
"""Bytes that pylibsrtp takes; more make it raise what aiortc does not expect."""

_READ_SIZE = 4_096
"""Bytes to read at once. asyncio takes 256 kB from the allocator for each datagram,
which costs several times what reading does."""

_MOST_STREAMS = 16
"""SSRCs known at once; a connection has one."""

_RTCP_LIKE = range(64, 96)
"""Payload types that look like RTCP with a marker bit (RFC 5761, section 4)."""


class Shortcut:
    """Takes the datagrams of one connection.

    Args:
        receiver: Whose packets are wanted.
        handler: Gets them; must not raise.
        on_refused: Called for every datagram that is dropped as forged or malformed.
    """

    def __init__(
        self,
        receiver: RTCRtpReceiver,
        handler: Callable[[AudioRtp], None],
        on_refused: Callable[[], None],
    ) -> None:
        self._handler = handler
        self._on_refused = on_refused
        self._payload_types: frozenset[int] = frozenset()
        self._level_id: int | None = None
        self._receiver: Any = receiver
        self._dtls: Any = receiver.transport
        self._connection: Any = receiver.transport.transport._connection
        self._streams: dict[bytes, Callable[[AudioRtp], None]] = {}
        """By SSRC as it is in the packet: what feeds the receiver reports."""
        self._later = self._connection.data_received
        self._handle_rtp = self._dtls._handle_rtp_data
        self._has_failed = False
        self._hooked: list[StunProtocol] = []
        self._connection.data_received = self._received  # type: ignore[method-assign]  # the hook
        self._dtls._handle_rtp_data = self._handle_guarded  # type: ignore[method-assign]  # the hook

    def configure(self, payload_types: Collection[int], level_id: int | None) -> None:
        """Take the outcome of a negotiation; streams have to show up anew.

        Args:
            payload_types: Those that are Opus.
            level_id: Number of the audio-level extension.
        """
        self._payload_types = frozenset(payload_types) - frozenset(_RTCP_LIKE)
        self._level_id = level_id
        self._streams.clear()

    def learn(self, ssrc: int) -> None:
        """Know a stream: aiortc assigned a packet of it to the receiver."""
        statistics = getattr(self._receiver, _STREAMS).get(ssrc)
        if statistics is None or self._dtls._rx_srtp is None:
            return
        if len(self._streams) >= _MOST_STREAMS:
            self._streams.clear()
        self._streams[ssrc.to_bytes(4, "big")] = statistics.add
        for protocol in self._connection._protocols:
            self._hook(protocol)

    def _hook(self, protocol: Any) -> None:
        """Come before a socket's search for STUN, which fails for every packet."""
        transport: Any = getattr(protocol, "transport", None)
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_SIZE
        if protocol in self._hooked or not isinstance(protocol, StunProtocol):
            return
        self._hooked.append(protocol)
        original = protocol.datagram_received

        def received(data: Any, addr: tuple[Any, ...]) -> None:
            if not self._take(data):
                original(data, addr)

        protocol.datagram_received = received  # type: ignore[method-assign]  # the hook

    def _received(self, data: bytes, component: int) -> None:
        """In place of `aioice.Connection.data_received`; never raises."""
        if self._take(data):
            return
        # Let aiortc have it, unless it would close the connection over it.
        if not data or (data[0] > 127 and len(data) > _LONGEST):
            self._on_refused()
        else:
            self._later(data, component)

    def _take(self, data: bytes) -> bool:
        """Handle a packet of a known stream; returns False for anything else."""
        count = self._streams.get(data[8:HEADER_BYTES])
        if (
            count is None
            or data[1] & 0x7F not in self._payload_types
            or not is_plain(data)
            or len(data) > _LONGEST
        ):
            return False
        try:
            packet = read_audio_rtp(self._dtls._rx_srtp.unprotect(data), self._level_id)
            if packet is None:
                self._on_refused()
            else:
                count(packet)
                self._handler(packet)
        except pylibsrtp.Error:
            # Forged, or a repeated one.
            self._on_refused()
        except Exception:
            self._failed()
        return True

    async def _handle_guarded(self, data: bytes, arrival_time_ms: int) -> None:
        """In place of `RTCDtlsTransport._handle_rtp_data`."""
        try:
            await self._handle_rtp(data, arrival_time_ms=arrival_time_ms)
        except Exception as exc:
            # Header extensions of a wrong size, for one.
            _log.debug("aiortc could not take a packet: %s", type(exc).__name__)
            self._on_refused()

    def _failed(self) -> None:
        """A mistake of ours, or another aiortc: the long way still works."""
        self._streams.clear()
        self._payload_types = frozenset()
        if not self._has_failed:
            self._has_failed = True
            _log.exception("the short way of packets failed; they take aiortc's")


def open_shortcut(
    receiver: RTCRtpReceiver,
    handler: Callable[[AudioRtp], None],
    on_refused: Callable[[], None],
) -> Shortcut | None:
    """Open the short way for a receiver; None (and a line in the log) if it cannot be.

    Args:
        receiver: One that has not received anything yet.
        handler: See `Shortcut`.
        on_refused: See `Shortcut`.
    """
    try:
        reason = why_no_shortcut(receiver)
    except (OSError, TypeError, ValueError, AttributeError) as exc:
        reason = f"{type(exc).__name__}: {exc}"
    if reason is not None:
        _log.info("packets take aiortc's way to our tap, which costs more: %s", reason)
        return None
    return Shortcut(receiver, handler, on_refused)


def why_no_shortcut(receiver: RTCRtpReceiver) -> str | None:
    """Return what the shortcut relies on and does not find; None if all is there."""
    dtls: Any = receiver.transport
    connection = getattr(getattr(dtls, "transport", None), "_connection", None)
    for owner, name in (
        (receiver, _STREAMS),
        (dtls, "_rx_srtp"),
        (connection, "_protocols"),
    ):
        if not hasattr(owner, name):
            return f"{type(owner).__name__} has no {name}"
    if not isinstance(getattr(receiver, _STREAMS), dict):
        return f"{_STREAMS} is no dict"
    take = getattr(connection, "data_received", None)
    handle = getattr(dtls, "_handle_rtp_data", None)
    if not _takes(take, ["data", "component"]) or asyncio.iscoroutinefunction(take):
        return "data_received() of ICE takes other arguments"
    if not _takes(handle, ["data", "arrival_time_ms"]):
        return "_handle_rtp_data() takes other arguments"
    return _why_not_at_all()


def _takes(function: Any, names: list[str]) -> bool:
    return callable(function) and list(inspect.signature(function).parameters) == names


@functools.cache
def _why_not_at_all() -> str | None:
    """What does not depend on a connection: how aiortc calls, and what it counts."""
    for function, call in (
        (StunProtocol.datagram_received, "self.receiver.data_received("),
        (RTCDtlsTransport._recv_next, "self._rx_srtp.unprotect(data)"),
        (RTCDtlsTransport._recv_next, "await self._handle_rtp_data(data"),
    ):
        if call not in inspect.getsource(function):
            return f"{function.__qualname__}() does not call {call}"
    statistics: Any = StreamStatistics(48_000)
    for number in (7, 9):
        statistics.add(AudioRtp(111, number, 960 * number, 1, b""))
    if (statistics.packets_received, statistics.packets_lost) != (2, 1):
        return "StreamStatistics count otherwise"
    return None
