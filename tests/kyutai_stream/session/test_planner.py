"""What is done next on a connection; here only what no other test is about."""

from __future__ import annotations

from kyutai_stream import DeafRules, SessionOptions
from kyutai_stream.backend import Draining
from kyutai_stream.session._actions import Leave, Leaving

from .driver import Driver


class TestBusy:
    """Whether the shell has to be woken by each of the recogniser's steps."""

    def test_not_while_too_little_audio_waits(self) -> None:
        driver = Driver()
        assert driver.machine.is_busy
        driver.quiet(0.1)
        assert not driver.machine.is_busy

    def test_while_audio_waits_for_the_window(self) -> None:
        driver = Driver(options=SessionOptions(send_window=1))
        driver.wait(0.02)
        driver.frozen = True
        driver.quiet(0.2)
        assert driver.machine.is_busy

    def test_until_a_flush_is_confirmed(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.frozen = True
        driver.machine.intake.request_flush()
        driver.wait(0.1)
        assert driver.machine.is_busy
        driver.frozen = False
        driver.wait(0.1)
        assert not driver.machine.is_busy

    def test_while_a_server_drains(self) -> None:
        driver = Driver()
        driver.wait(0.02)
        driver.receive(Draining(deadline_s=60.0))
        assert driver.machine.is_busy

    def test_during_a_reset(self) -> None:
        driver = Driver(
            resets=False,
            options=SessionOptions(deaf=DeafRules(speech_s=2.0, force_s=60.0)),
        )
        driver.noise(3.0)
        while not driver.asked:
            driver.quiet(0.02)
        assert driver.asked == ["AskReset"]
        assert driver.machine.is_busy

    def test_at_the_end(self) -> None:
        driver = Driver()
        driver.say("ba")
        driver.wait(1.0)
        assert not driver.machine.is_busy
        driver.machine.intake.end_input(driver.now)
        assert driver.machine.is_busy
        # Nothing is owed any more, but it has to be left.
        assert driver.machine.next_action(driver.now) == Leave(why=Leaving.FINISHED)
        assert driver.machine.is_busy
