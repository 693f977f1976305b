# SPDX-License-Identifier: MIT
"""Puts RTP packets of one stream in order: sans-I/O, time is an argument.

A packet that is expected passes at once. Only a hole in the sequence numbers makes
later packets wait, for a bounded time, and for less where the network has not
reordered anything for a while. Whoever drives this owns the timer (`deadline`).
"""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

from attrs import frozen

__all__ = ["LONGEST_WAIT_S", "Released", "ReorderBuffer", "ReorderStats", "RtpLike"]

LONGEST_WAIT_S = 0.060
"""Upper bound of the configurable wait: beyond it a caption is better late nowhere."""

_SHORTEST_WAIT_S = 0.020
"""Where nothing was reordered lately a hole waits for one more 20 ms packet."""

_QUIET_S = 30.0
"""After so long without reordering the wait is the shortest again."""

_CAPACITY = 16
"""Packets held at most: 320 ms of the usual packets, far more than any wait."""

_FARTHEST = 1000
"""A jump of more sequence numbers is a stream that counts anew (20 s of audio)."""

_RESTART_AFTER = 8
"""So many old packets in a row, each one after the other, are a stream that went
back a little, not duplicates: a network repeats packets one at a time."""

_REMEMBERED = 128
"""Sequence numbers given up lately; one that still comes is late, not a duplicate."""


class RtpLike(Protocol):
    """What is read of a packet; aiortc's `RtpPacket` fits."""

    sequence_number: int
    """16 bits, wraps (RFC 3550, section 5.1)."""
    timestamp: int
    """32 bits, wraps."""
    ssrc: int


P = TypeVar("P", bound=RtpLike)


class Released(NamedTuple, Generic[P]):
    """A packet in its place."""

    packet: P
    arrival: float
    """When it came, seconds of the caller's clock."""
    lost: int = 0
    """Packets missing right before it, which are not waited for any more."""
    restarted: bool = False
    """Whether it begins a stream with numbers of its own (SSRC, jump)."""


@frozen(kw_only=True)
class ReorderStats:
    """Counters of packets."""

    received: int
    """All that came, duplicates and late ones included."""
    lost: int
    """Given up; those that came too late are among them."""
    late: int
    """Came after they had been given up; dropped."""
    duplicates: int
    """Came twice; dropped."""
    reordered: int
    """Came after a later one, in time to take their place."""
    restarts: int
    """Streams that began anew: SSRC changed or numbers jumped."""
    deepest: int
    """Most packets ever held at once."""


class ReorderBuffer(Generic[P]):
    """One stream's packets in the order of their sequence numbers.

    Args:
        wait_s: Longest wait for a missing packet, seconds; at most 0.060.

    Raises:
        ValueError: If `wait_s` is out of range.
    """

    def __init__(self, wait_s: float = 0.040) -> None:
        if not 0 <= wait_s <= LONGEST_WAIT_S:
            raise ValueError(f"wait_s must be between 0 and {LONGEST_WAIT_S:g}")
        self._longest = wait_s
        self._expected: int | None = None
        self._ssrc: int | None = None
        self._held: dict[int, tuple[P, float]] = {}
        self._given_up: dict[int, float] = {}
        self._old_number = self._old_run = 0
        self._reordered_at = -_QUIET_S
        self._reorder_s = 0.0
        self._began_at: float | None = None
        self._received = self._lost = self._late = self._duplicates = 0
        self._reordered = self._restarts = self._deepest = 0

    @property
    def stats(self) -> ReorderStats:
        """Counters so far."""
        return ReorderStats(
            received=self._received,
            lost=self._lost,
            late=self._late,
            duplicates=self._duplicates,
            reordered=self._reordered,
            restarts=self._restarts,
            deepest=self._deepest,
        )

    @property
    def held(self) -> int:
        """Packets that wait for an earlier one."""
        return len(self._held)

    def wait_s(self, now: float) -> float:
        """How long a hole is waited for at present, seconds."""
        if self._began_at is None or now - self._began_at < _QUIET_S:
            # Nothing is known yet about this path.
            return self._longest
        if now - self._reordered_at < _QUIET_S:
            return min(self._longest, max(_SHORTEST_WAIT_S, 1.5 * self._reorder_s))
        return min(self._longest, _SHORTEST_WAIT_S)

    def passes(self, packet: P) -> bool:
        """Take the packet if it is the expected one and nothing waits.

        The usual case, without a list: where it returns False, `push` decides.
        """
        number = packet.sequence_number
        if number != self._expected or self._held or packet.ssrc != self._ssrc:
            return False
        self._received += 1
        self._expected = (number + 1) & 0xFFFF
        self._old_run = 0
        return True

    def push(self, packet: P, now: float) -> list[Released[P]]:
        """Take a packet; returns what is in order now, perhaps nothing."""
        if self.passes(packet):
            return [Released(packet, now)]
        self._received += 1
        if self._expected is None or packet.ssrc != self._ssrc:
            return self._restart(packet, now)
        ahead = (packet.sequence_number - self._expected) & 0xFFFF
        if ahead >= 0x8000:
            return self._take_old(packet, now, 0x10000 - ahead)
        if ahead > _FARTHEST:
            return self._restart(packet, now)
        if ahead == 0:
            self._filled(now)
        elif packet.sequence_number in self._held:
            self._duplicates += 1
            return self.poll(now)
        elif self._held and ahead < max(self._places()):
            self._filled(now)
        self._held[packet.sequence_number] = (packet, now)
        if ahead:
            self._deepest = max(self._deepest, len(self._held))
        return [*self._drain(), *self.poll(now)]

    def poll(self, now: float) -> list[Released[P]]:
        """Give up holes that were waited for long enough; returns what follows."""
        released: list[Released[P]] = []
        while self._held:
            due = self._oldest_arrival() + self.wait_s(now)
            if now < due and len(self._held) <= _CAPACITY:
                break
            released += self._give_up(now)
        return released

    def deadline(self, now: float) -> float | None:
        """When `poll` is due, seconds of the caller's clock; None if nothing waits."""
        if not self._held:
            return None
        return self._oldest_arrival() + self.wait_s(now)

    def flush(self, now: float) -> list[Released[P]]:
        """Release everything held: there will be nothing more of this stream.

        The next packet begins a new one.
        """
        released: list[Released[P]] = []
        while self._held:
            released += self._give_up(now)
        self._expected = None
        self._given_up.clear()
        return released

    def _restart(self, packet: P, now: float) -> list[Released[P]]:
        released = self.flush(now)
        if self._ssrc is not None:
            self._restarts += 1
        if self._began_at is None:
            self._began_at = now
        self._ssrc = packet.ssrc
        self._expected = (packet.sequence_number + 1) & 0xFFFF
        self._old_run = 0
        released.append(Released(packet, now, restarted=True))
        return released

    def _take_old(self, packet: P, now: float, behind: int) -> list[Released[P]]:
        """A packet from before what is expected."""
        if behind > _FARTHEST:
            return self._restart(packet, now)
        given_up_at = self._given_up.pop(packet.sequence_number, None)
        if given_up_at is not None:
            self._late += 1
            # The wait was too short by what passed since; next time it is longer.
            self._noticed(now, self.wait_s(now) + now - given_up_at)
            return self.poll(now)
        follows = packet.sequence_number == (self._old_number + 1) & 0xFFFF
        self._old_number = packet.sequence_number
        self._old_run = self._old_run + 1 if follows else 1
        if self._old_run >= _RESTART_AFTER:
            return self._restart(packet, now)
        self._duplicates += 1
        return self.poll(now)

    def _filled(self, now: float) -> None:
        self._reordered += 1
        self._noticed(now, now - self._oldest_arrival())

    def _noticed(self, now: float, after_s: float) -> None:
        """A packet came this long after a later one."""
        if now - self._reordered_at >= _QUIET_S:
            self._reorder_s = 0.0
        self._reordered_at = now
        self._reorder_s = max(self._reorder_s, after_s)

    def _oldest_arrival(self) -> float:
        return min(arrival for _, arrival in self._held.values())

    def _places(self) -> list[int]:
        """How far ahead of the expected packet the held ones are."""
        expected = self._expected
        assert expected is not None, "packets are held in a stream only"
        return [(number - expected) & 0xFFFF for number in self._held]

    def _drain(self, lost: int = 0) -> list[Released[P]]:
        """Release held packets up to the next hole."""
        released: list[Released[P]] = []
        while self._held:
            assert self._expected is not None, "packets are held in a stream only"
            found = self._held.pop(self._expected, None)
            if found is None:
                break
            released.append(Released(found[0], found[1], lost))
            lost = 0
            self._expected = (self._expected + 1) & 0xFFFF
        if released:
            self._old_run = 0
        return released

    def _give_up(self, now: float) -> list[Released[P]]:
        """Skip the hole in front of the first held packet."""
        assert self._expected is not None, "packets are held in a stream only"
        missing = min(self._places())
        for number in range(missing)[-_REMEMBERED:]:
            self._given_up[(self._expected + number) & 0xFFFF] = now
        while len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]
        self._lost += missing
        self._expected = (self._expected + missing) & 0xFFFF
        return self._drain(missing)
