"""docs/reference/gateway-protocol.md says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from kyutai_gateway.stream import StreamRules, messages
from kyutai_gateway.stream.messages import CLOSE_CODES, Code
from kyutai_stream.backends.moshi_server import MoshiServerBackend

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "gateway-protocol.md"


def rows(section: str) -> list[list[str]]:
    """The cells of the table of a section, without its head."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2]
    text = text.partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


MADE = {
    "ready": messages.ready("stt-1b-en_fr", MoshiServerBackend().capabilities),
    "token": messages.token(0, 0, "hello", 0.5),
    "word_end": messages.word_end(0, 0, 0.8),
    "vad_end": messages.vad_end(0, 2.0),
    "ack": messages.ack(0, 1920, 0, (0.1,)),
    "flushed": messages.flushed(1, 0),
    "was_reset": messages.was_reset(1, 1),
    "ping": messages.PING,
    "draining": messages.draining(30.0),
    "error": messages.error("capacity", "full", retryable=True),
    "end": messages.END,
}


def test_every_message_has_its_fields() -> None:
    documented = {}
    for name, cell, _ in rows("Gateway to client"):
        documented[quoted(name)[0]] = quoted(cell)
    made = {name: list(json.loads(text)) for name, text in MADE.items()}
    for name, fields in made.items():
        assert fields.pop(0) == "type"
        assert json.loads(MADE[name])["type"] == name
    assert documented == made


def test_no_message_is_left_out() -> None:
    makers = set(messages.__all__) - {"CLOSE_CODES", "Code", "Control"}
    makers -= {"parse_control"}
    assert {name.lower() for name in makers} == set(MADE)


def test_every_error_has_its_code() -> None:
    documented = {}
    for code, close, retryable, _ in rows("Errors and how a stream ends"):
        documented[quoted(code)[0]] = (close, retryable)
    expected = {
        code: (str(CLOSE_CODES.get(code, "")), "no" if code == "bad_audio" else "yes")
        for code in get_args(Code)
    }
    assert documented == expected


@pytest.mark.parametrize("kind", ["flush", "reset", "eos"])
def test_every_control_is_understood(kind: str) -> None:
    shown = [quoted(name)[0] for name, _ in rows("Client to gateway") if "`" in name]
    (example,) = [text for text in shown if f'"{kind}"' in text]
    control = messages.parse_control(example.replace(":n}", ":7}"))
    assert control is not None
    assert control.kind == kind
    assert control.id == (None if kind == "eos" else 7)


def test_numbers_are_those_of_the_rules() -> None:
    page, rules = PAGE.read_text(encoding="utf-8"), StreamRules()
    assert f"every {rules.ping_s:g} s" in page
    assert f"does not read for {rules.send_timeout_s:g} s" in page
    assert f"{rules.max_message_bytes // 1024**2} MiB" in page
