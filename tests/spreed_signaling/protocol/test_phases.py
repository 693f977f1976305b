"""The table of phases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spreed_signaling.protocol.phases import TRANSITIONS, Phase, next_phase

EVENTS = {event for _, event in TRANSITIONS}


def test_every_phase_is_reached_and_can_end() -> None:
    reached = {Phase.DISCONNECTED}
    for _ in Phase:
        reached |= {TRANSITIONS[key] for key in TRANSITIONS if key[0] in reached}
    assert reached == set(Phase)


def test_finished_is_final() -> None:
    after = {TRANSITIONS[key] for key in TRANSITIONS if key[0] is Phase.FINISHED}
    assert after == {Phase.FINISHED}


def test_a_lost_connection_is_possible_in_every_phase() -> None:
    assert all((phase, "connection lost") in TRANSITIONS for phase in Phase)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", sorted(EVENTS))
def test_missing_entries_name_event_and_phase(phase: Phase, event: str) -> None:
    if (phase, event) in TRANSITIONS:
        assert next_phase(phase, event) is TRANSITIONS[phase, event]
    else:
        with pytest.raises(AssertionError, match=f"'{event}' cannot happen"):
            next_phase(phase, event)


def test_the_documentation_shows_the_table() -> None:
    page = Path(__file__).parents[3] / "docs/explanation/session-lifecycle.md"
    rows = re.findall(r"^\| (\w+) \| ([\w ]+) \| (\w+) \|$", page.read_text(), re.M)
    table = [(old.value, event, new.value) for (old, event), new in TRANSITIONS.items()]
    assert rows[1:] == table
