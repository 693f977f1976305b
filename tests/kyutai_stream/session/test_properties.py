"""What holds whatever happens: no sample and no word is lost without a gap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kyutai_stream import Capabilities, DeafRules, SessionOptions, open_session
from kyutai_stream.backend import Draining
from kyutai_stream.core import FRAME_S, SAMPLE_RATE
from kyutai_stream.testing import ConnectionScript, ScriptedBackend
from kyutai_stream.testing.virtual_time import run_virtual

from .driver import KYUTAI, Driver

calm = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

NAMES = ["".join(letters) for letters in itertools.product("bdfgklmn", "aeiou", "rst")]

SLOW = Capabilities(acks=True, nominal_delay_s=2.56)
BLIND = Capabilities(acks=False, nominal_delay_s=0.48, resettable=True)
GATEWAY = Capabilities(
    acks=True, nominal_delay_s=0.48, self_flushing=True, keepalive_interval_s=5.0
)
PREFIXED = Capabilities(acks=True, nominal_delay_s=0.48, silence_prefix_s=1.0)

Step = tuple[str, float]

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["say", "say", "say", "quiet", "mute", "jump", "lose", "down", "flush"]
            + ["freeze", "noise", "burst", "drain", "slow"]
        ),
        st.floats(0.0, 1.0),
    ),
    min_size=1,
    max_size=14,
)


def play(driver: Driver, script: list[Step]) -> Driver:
    """Do what a script says; numbers from 0 to 1 choose how much."""
    names = iter(NAMES)
    for name, much in script:
        match name:
            case "say":
                words = " ".join(next(names) for _ in range(1 + round(much * 4)))
                driver.say(words, word_s=0.2 + 0.2 * much, gap_s=0.12 + 0.3 * much)
            case "burst":
                # A file: faster than time.
                driver.say(f"{next(names)} {next(names)}", live=False)
            case "quiet":
                driver.quiet(much * 6)
            case "noise":
                driver.noise(much * 2)
                driver.quiet(0.3)
            case "mute":
                driver.wait(much * 20)
            case "jump":
                driver.jump(much * 10)
            case "lose":
                driver.lose()
            case "down":
                driver.up = False
                driver.lose()
                driver.wait(much * 20)
                driver.up = True
            case "freeze":
                driver.frozen = True
                driver.wait(much * 10)
                driver.frozen = False
            case "drain":
                if driver.machine.is_ready:
                    driver.receive(Draining(deadline_s=0.2 + much * 5))
            case "slow":
                driver.starts_in_s = much * 5
            case "flush":
                driver.machine.intake.request_flush()
    driver.wait(driver.starts_in_s + 6.0)
    driver.end()
    return driver


def require_accounts(driver: Driver) -> None:
    """Nothing is lost silently, order is kept, and the figures add up."""
    finals, gaps = driver.shown.finals, driver.shown.gaps
    lost = driver.audio.sounding & ~driver.audio.was_sent() & ~driver.in_gaps()
    assert not lost.any(), f"lost from {driver.audio.media[int(lost.argmax())]}"
    starts = [word.start for final in finals for word in final.words]
    assert starts == sorted(starts)
    assert len(finals) == len({final.segment_id for final in finals})
    assert set(driver.fulfilled) == set(range(1, len(driver.fulfilled) + 1))
    usage = driver.shown.usage
    assert usage.audio_pushed_s == pytest.approx(driver.pushed / SAMPLE_RATE)
    assert usage.audio_sent_s == pytest.approx(driver.audio.frames_sent_s())
    assert usage.audio_processed_s <= usage.audio_sent_s + 1e-6
    assert usage.gap_s == pytest.approx(sum(gap.end - gap.start for gap in gaps))
    assert usage.connections == len(driver.connections)
    assert usage.words == len([word for final in finals for word in final.words])
    ends = [0.0, *(gap.end for gap in gaps)]
    assert all(gap.start >= end for gap, end in zip(gaps, ends, strict=False))
    # Counted when it is cut into frames: what was not sent any more before a loss
    # counts too.
    many = len(driver.connections)
    again_s = driver.audio.sent_again_s()
    assert again_s - 1e-6 <= usage.replayed_s <= again_s + 0.2 * many
    fed_s = driver.audio.fed_silence_s()
    assert fed_s - 1e-6 <= usage.silence_s <= fed_s + 3.0 * many
    assert usage.connected_s <= driver.now - 100.0 + 1e-6


class TestAnythingMayHappen:
    @calm
    @given(steps, st.sampled_from([KYUTAI, SLOW, BLIND, GATEWAY, PREFIXED]))
    def test_every_word_comes_once(
        self, script: list[Step], capabilities: Capabilities
    ) -> None:
        driver = play(Driver(capabilities=capabilities), script)
        require_accounts(driver)
        assert driver.shown.gaps == []
        assert driver.shown.text == driver.said

    @calm
    @given(steps, st.floats(5.0, 8.0))
    def test_with_little_memory_only_gaps_take_words(
        self, script: list[Step], memory_s: float
    ) -> None:
        options = SessionOptions(replay_s=memory_s, cold_start_s=memory_s)
        driver = play(Driver(options=options), script)
        require_accounts(driver)
        self.require_all_but_gaps(driver)

    @calm
    @given(steps, st.floats(0.5, 4.0))
    def test_captions_that_must_not_be_late(
        self, script: list[Step], lateness_s: float
    ) -> None:
        options = SessionOptions(max_lateness_s=lateness_s)
        driver = play(Driver(options=options), script)
        require_accounts(driver)
        self.require_all_but_gaps(driver)

    @calm
    @given(steps, st.booleans())
    def test_restarts_of_a_deaf_recogniser(
        self, script: list[Step], resettable: bool
    ) -> None:
        deaf = DeafRules(speech_s=1.0, force_s=2.0)
        capabilities = Capabilities(
            acks=True, nominal_delay_s=0.48, resettable=resettable
        )
        driver = Driver(
            options=SessionOptions(deaf=deaf),
            capabilities=capabilities,
        )
        play(driver, script)
        require_accounts(driver)
        assert driver.shown.gaps == []
        assert driver.shown.text == driver.said

    def require_all_but_gaps(self, driver: Driver) -> None:
        """Words that touch no gap are there, none is there twice."""
        shown = driver.shown.text.split()
        order = [word.text for word in driver.words if word.text in shown]
        assert shown == order
        gaps = driver.in_gaps()
        for word in driver.words:
            near = slice(max(0, word.begin - 1920), word.end + 1920)
            assert word.text in shown or gaps[near].any(), f"{word} is missing"

    @calm
    @given(steps, st.sampled_from([KYUTAI, BLIND, GATEWAY]), st.floats(1.0, 8.0))
    def test_a_place_that_is_given_back_soon(
        self, script: list[Step], capabilities: Capabilities, release_s: float
    ) -> None:
        options = SessionOptions(idle_release_s=release_s)
        driver = play(Driver(options=options, capabilities=capabilities), script)
        require_accounts(driver)
        assert driver.shown.gaps == []
        assert driver.shown.text == driver.said


@calm
@given(
    st.lists(st.integers(1, 20_000), min_size=1, max_size=12),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=12),
)
def test_any_chunking_gives_identical_frames(
    sizes: list[int], others: list[int]
) -> None:
    total = min(sum(sizes), sum(others))
    samples = np.random.default_rng(total).uniform(-0.5, 0.5, total).astype(np.float32)

    async def frames(cuts: list[int]) -> list[bytes]:
        backend = ScriptedBackend(ConnectionScript())
        options = SessionOptions(stall_s=1e6)
        async with open_session(backend, options=options) as session:
            for piece in np.split(samples, np.cumsum(cuts)):
                await session.push(piece)
            await session.end_input()
            _ = [event async for event in session]
        (connection,) = backend.connections
        return [frame.tobytes() for frame in connection.frames]

    one = run_virtual(lambda: frames(sizes))
    assert one == run_virtual(lambda: frames(others))
    assert len(one) >= total * FRAME_S / FRAME_S / 1920
    sent = np.frombuffer(b"".join(one), dtype=np.float32)
    assert np.array_equal(sent[:total], samples)
    assert not sent[total:].any()
