"""The parts without I/O: model, queue, clock and the parsing of what clients send."""

from __future__ import annotations

import json

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kyutai_stream.testing.gateway import Timers
from kyutai_stream.testing.gateway.generations import DIALECTS
from kyutai_stream.testing.gateway.machine import StreamMachine
from kyutai_stream.testing.gateway.model import FakeModel, ModelEnd, ModelWord
from kyutai_stream.testing.gateway.options import DialectOptions, Send
from kyutai_stream.testing.gateway.protocol1 import PauseRule, Protocol1
from kyutai_stream.testing.gateway.pump import ClientClock, Mark, Pump, Stepped
from kyutai_stream.testing.moshi_server import STT_1B, ScriptedRecogniser
from kyutai_stream.testing.tones import HeardWord

FRAME = np.zeros(1920, dtype=np.float32)


def deaf() -> ScriptedRecogniser:
    return ScriptedRecogniser([])


def model(*words: HeardWord, pieces: int = 1) -> FakeModel:
    settings = evolve(STT_1B, pieces=lambda text: pieces)
    return FakeModel(settings, lambda: ScriptedRecogniser(words))


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_word_comes_delay_pieces_and_one_steps_after_its_start(pieces: int) -> None:
    stream = model(HeardWord(text="abcdefghij", start=0.8, end=1.0), pieces=pieces)
    said = [(n, stream.step(FRAME)) for n in range(1, 40)]
    ((step, word),) = [(n, one.words) for n, one in said if one.words]
    assert step == 10 + 6 + pieces + 1
    assert word == (ModelWord(index=0, text="abcdefghij", start=0.8),)
    shown = [(n, piece) for n, one in said for piece in one.pieces]
    assert "".join(text for _, text in shown) == " abcdefghij"
    assert [n for n, _ in shown] == [step + number for number in range(pieces)]


def test_ends_come_with_the_next_onset() -> None:
    stream = model(
        HeardWord(text="a", start=0.0, end=0.2), HeardWord(text="b", start=0.8, end=0.9)
    )
    said = [(n, one) for n in range(1, 40) for one in stream.step(FRAME).words]
    assert said == [
        (8, ModelWord(index=0, text="a", start=0.0)),
        (16, ModelEnd(index=0, end=0.8)),
        (18, ModelWord(index=1, text="b", start=0.8)),
    ]


def test_a_deaf_model_steps_on() -> None:
    stream = model(HeardWord(text="a", start=0.0, end=0.2))
    stream.stop_hearing()
    steps = [stream.step(FRAME) for _ in range(40)]
    assert not any(one.words or one.pieces for one in steps)
    assert all(len(one.prs) == 4 for one in steps)


def test_pause_rule() -> None:
    rule = PauseRule()
    high, low = (1.0,) * 4, (0.0,) * 4
    assert not any(rule.step(high) for _ in range(20))
    rule.word()
    assert [rule.step(high) for _ in range(4)] == [False, True, False, False]
    rule.word()
    assert [rule.step(one) for one in (high, low, high, high)] == [False] * 4
    assert rule.step(high)
    early = PauseRule()
    early.word()
    assert [early.step(high) for _ in range(13)] == [False] * 12 + [True]


@given(st.lists(st.integers(0, 1920), max_size=50), st.data())
def test_the_clients_clock_skips_injected_silence(
    frames: list[int], data: st.DataObject
) -> None:
    clock = ClientClock()
    live: list[int] = []
    count = 0
    for client in frames:
        clock.advance(client)
        for sample in range(1920):
            live.append(count)
            count += sample < client
    assert clock.client == sum(frames)
    assert clock.fed == len(live)
    if live:
        sample = data.draw(st.integers(0, len(live) - 1))
        wanted = live[sample] / 24_000
        assert clock.client_s(sample / 24_000) == pytest.approx(wanted, abs=1e-4)


def test_the_pump_keeps_order_and_pace() -> None:
    pump = Pump(lambda epoch: model(), step_s=0.08)
    pump.push(np.zeros(1920 + 10, dtype=np.float32))
    pump.flush(2)
    pump.mark(Mark(kind="flush", id=1))
    assert pump.lag == 1930
    assert isinstance(pump.next(5.0), Stepped)
    assert pump.next(5.0) is None
    assert pump.wakeup() == pytest.approx(5.08)
    # Woken a little late: the pace is kept.
    assert isinstance(pump.next(5.09), Stepped)
    assert pump.wakeup() == pytest.approx(5.16)
    assert pump.lag == 0
    silence = [pump.next(5.2), pump.next(5.3)]
    assert all(isinstance(one, Stepped) and one.silence for one in silence)
    assert pump.next(5.4) == Mark(kind="flush", id=1)
    assert pump.wakeup() is None
    assert pump.clock.client == 1930
    pump.flush(2)
    assert pump.wakeup() is None, "nothing to flush"


def options() -> DialectOptions:
    return DialectOptions(listen=deaf, timers=Timers())


MESSAGE = st.one_of(
    st.binary(max_size=64),
    st.text(max_size=64),
    st.sampled_from([b"EOS", '{"type":"flush","id":1}', '{"type":"reset"}', "[[["]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(st.sampled_from(["type", "id", "x"]), inner),
        max_leaves=5,
    ).map(json.dumps),
)


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@given(messages=st.lists(MESSAGE, max_size=12))
def test_whatever_clients_send_is_answered_in_order(
    dialect: str, messages: list[bytes | str]
) -> None:
    core = StreamMachine(DIALECTS[dialect](options(), 0.0), 0.0)
    outputs = core.tick(0.0)
    for number, message in enumerate(messages):
        outputs += core.receive(message, float(number))
    texts = [one.message for one in outputs if isinstance(one, Send)]
    assert all(isinstance(json.loads(text), dict) for text in texts)
    # After a close nothing is said.
    closes = [n for n, one in enumerate(outputs) if not isinstance(one, Send)]
    assert closes in ([], [len(outputs) - 1])


@given(st.lists(st.binary(max_size=9), max_size=20))
def test_split_samples_are_carried_over(parts: list[bytes]) -> None:
    parts = [part.replace(b"EOS", b"eos") for part in parts]
    data = b"".join(parts)
    if not np.isfinite(np.frombuffer(data[: len(data) // 4 * 4], "<f4")).all():
        return
    core = StreamMachine(Protocol1(options(), 0.0), 0.0)
    for part in parts:
        core.receive(part, 0.0)
    assert core.pump.samples == len(data) // 4


def test_after_a_close_nothing_is_said_even_if_the_model_is_behind() -> None:
    core = StreamMachine(Protocol1(evolve(options(), step_s=0.08), 0.0), 0.0)
    core.tick(0.0)
    core.receive(np.zeros(20 * 1920, dtype="<f4").tobytes(), 0.1)
    # Steps and their acks are due, but this audio ends the stream.
    outputs = core.receive(np.full(1, np.nan, dtype="<f4").tobytes(), 1.0)
    assert [type(one).__name__ for one in outputs] == ["Send", "CloseWith"]
    assert core.tick(9.0) == []
    assert core.wakeup() is None
