# SPDX-License-Identifier: AGPL-3.0-or-later
"""Who gets captions, and when a call is left."""

from __future__ import annotations

from live_transcription.readers import Readers


class Room:
    """Readers with a clock and a roster of their own."""

    def __init__(self, *asked: str) -> None:
        self.now = 0.0
        self.there: dict[str, str] = {}
        self.joined = self.company = True
        self.readers = Readers(asked, leave_after_s=60.0, now=self.now)

    def look(self, wait_s: float = 0.0) -> Readers:
        self.now += wait_s
        self.readers.update(
            self.there.get, joined=self.joined, company=self.company, now=self.now
        )
        return self.readers


def test_a_reader_waits_until_she_is_found() -> None:
    room = Room("nc1")
    assert (room.look().reached, room.readers.waiting) == ((), 1)
    room.there["nc1"] = "hpb1"
    assert (room.look(5).reached, room.readers.waiting) == (("hpb1",), 0)
    assert room.readers.leave_at() is None


def test_asking_twice_changes_nothing() -> None:
    room = Room("nc1")
    room.there["nc1"] = "hpb1"
    room.look()
    room.readers.add("nc1", room.now)
    assert (room.readers.asked, room.readers.reached) == (("nc1",), ("hpb1",))
    assert room.readers.waiting == 0


def test_nobody_found_leaves_after_a_minute() -> None:
    room = Room("nc1")
    assert room.look().leave_at() == 60.0
    room.look(60)
    assert room.readers.asked == ()
    assert room.readers.leave_at() == 60.0


def test_without_a_connection_readers_are_kept_for_ever() -> None:
    room = Room("nc1")
    room.joined = False
    room.look()
    assert room.look(10_000).asked == ("nc1",)
    assert room.readers.leave_at() is None
    room.joined = True
    assert room.look().leave_at() == room.now + 60


def test_a_lost_connection_keeps_who_was_reached() -> None:
    room = Room("nc1")
    room.there["nc1"] = "hpb1"
    room.look()
    room.joined = False
    room.there.clear()
    assert room.look(10).reached == ("hpb1",)
    room.joined = True
    assert room.look().reached == ()
    room.there["nc1"] = "hpb2"
    assert room.look().reached == ("hpb2",)


def test_last_reader_switches_off() -> None:
    room = Room("nc1")
    room.there["nc1"] = "hpb1"
    room.look()
    room.now = 100.0
    room.readers.remove("nc1", room.now)
    assert room.readers.reached == ()
    assert room.readers.leave_at() == 160.0
    room.readers.remove("unknown", room.now)
    assert room.readers.leave_at() == 160.0


def test_switching_on_again_stops_the_clock() -> None:
    room = Room()
    assert room.readers.leave_at() == 60.0
    room.now = 30.0
    room.readers.add("nc1", room.now)
    assert room.readers.leave_at() is None or room.readers.leave_at() == 90.0
    room.there["nc1"] = "hpb1"
    assert room.look().leave_at() is None


def test_a_press_gives_a_reader_who_is_not_found_another_minute() -> None:
    room = Room("nc1")
    room.look()
    room.now = 50.0
    room.readers.add("nc1", room.now)
    assert room.look(20).asked == ("nc1",)
    assert room.readers.leave_at() == 110.0


def test_alone_in_the_call() -> None:
    room = Room("nc1")
    room.there["nc1"] = "hpb1"
    room.look()
    room.company = False
    assert room.look(10).leave_at() == 70.0
    room.company = True
    assert room.look(10).leave_at() is None


def test_one_lost_reader_is_given_up_while_the_other_stays() -> None:
    room = Room("nc1", "nc2")
    room.there = {"nc1": "hpb1", "nc2": "hpb2"}
    room.look()
    del room.there["nc1"]
    room.look()
    assert room.look(59).asked == ("nc1", "nc2")
    assert room.look(1).asked == ("nc2",)
    assert room.readers.leave_at() is None
