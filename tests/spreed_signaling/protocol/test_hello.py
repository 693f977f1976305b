"""Opening a session: hello, its errors, and when to try again."""

from __future__ import annotations

import pytest

from spreed_signaling.errors import (
    BackendNotAllowed,
    ConnectFailed,
    CredentialsRefused,
    HelloRefused,
    InternalSecretRefused,
    RequestTimeout,
    TooManyAttempts,
)
from spreed_signaling.protocol.auth import internal_token
from spreed_signaling.protocol.events import (
    Disconnected,
    RoomLeft,
    SessionFinished,
    SessionStarted,
)
from spreed_signaling.protocol.phases import Phase

from .driver import INTERNAL, ROOM, TICKET, Driver, only


class TestEstablishConnection:
    """Specification: "Establish connection"."""

    def test_wants_a_connection_from_the_start(self) -> None:
        driver = Driver()
        assert driver.session.wants_connection(0.0)
        assert driver.session.wants_connection(-1e9)
        assert driver.session.status().retry_at is None
        assert driver.session.session_id is None

    def test_hello_before_any_welcome(self) -> None:
        driver = Driver()
        driver.open()
        hello = driver.server.assert_hello_sent()
        assert hello["hello"]["version"] == "1.0"
        assert hello["hello"]["features"] == ["internal-incall"]
        params = hello["hello"]["auth"]["params"]
        assert params["backend"] == "https://nc.example"
        assert params["token"] == internal_token(INTERNAL.secret, params["random"])
        assert driver.phase is Phase.HELLO

    @pytest.mark.parametrize("welcome", ["first", "none", "late"])
    def test_welcome_decides_nothing(self, welcome: str) -> None:
        driver = Driver()
        driver.open()
        hello = driver.server.assert_hello_sent()
        body = {"version": "2.0.2", "features": ["mcu"]}
        if welcome == "first":
            driver.server.say("welcome", body)
        driver.server.answer_hello(hello)
        started = only(driver.events(), SessionStarted)
        if welcome == "late":
            driver.server.say("welcome", {"version": "2.0.2"})
        assert driver.phase is Phase.READY
        assert started.session_id == driver.session.session_id == "S1"
        assert started.server_version == "2.0.2"
        assert "switchto" in driver.session.features
        assert driver.session.deadline() is None

    def test_features_of_the_welcome_count_if_the_hello_has_none(self) -> None:
        driver = Driver()
        driver.open()
        driver.sent()
        driver.server.say("welcome", {"version": "9", "features": ["switchto"]})
        driver.server.say("hello", {"sessionid": "S1"})
        started = only(driver.events(), SessionStarted)
        assert started.features == {"switchto"}
        assert started.server_version == "unknown"

    def test_answer_without_session_id_is_no_answer(self) -> None:
        driver = Driver()
        driver.open()
        driver.server.say("hello", {"version": "1.0"})
        assert driver.phase is Phase.HELLO

    def test_user_announces_a_ticket(self) -> None:
        driver = Driver(TICKET)
        driver.open()
        hello = driver.server.assert_hello_sent()["hello"]
        assert "features" not in hello
        assert hello["auth"]["params"] == {"userid": "alice", "ticket": "a-ticket"}

    def test_a_second_hello_answer_changes_nothing(self) -> None:
        driver = Driver()
        driver.ready()
        driver.server.say("hello", {"sessionid": "S2"})
        assert driver.session.session_id == "S1"
        assert driver.events() == []

    def test_hello_timeout_closes_and_retries(self) -> None:
        driver = Driver()
        driver.open()
        assert driver.session.deadline() == driver.now + 12.0
        driver.advance(11.9)
        assert not driver.session.close_requested()
        driver.advance(0.1)
        assert driver.session.close_requested()
        assert not driver.session.close_expected()
        error = only(driver.events(), Disconnected).error
        assert isinstance(error, RequestTimeout)
        driver.lose()
        # Told once, and the reason is the time-out, not our own closing.
        assert driver.events() == []
        assert driver.session.status().error is error
        driver.assert_next_attempt_in(0.3, 0.7)
        driver.assert_quiet()

    def test_an_answer_after_the_timeout_is_too_late(self) -> None:
        driver = Driver()
        driver.open()
        hello = driver.server.assert_hello_sent()
        driver.advance(12.0)
        driver.server.answer_hello(hello)
        assert driver.phase is Phase.HELLO
        assert driver.session.session_id is None

    def test_delays_grow_while_nothing_answers(self) -> None:
        driver = Driver()
        waits = []
        for _ in range(60):
            driver.lose(ConnectFailed("wss://hpb.example", "connection refused"))
            only(driver.events(), Disconnected)
            waits.append(driver.wait_for_attempt())
        assert waits[0] < 0.7 < waits[1] < 1.3
        assert all(1.4 < wait < 2.6 for wait in waits[2:30])
        assert all(11 < wait < 21 for wait in waits[40:])

    def test_a_session_that_breaks_at_once_is_not_retried_in_a_hurry(self) -> None:
        driver = Driver()
        for _ in range(3):
            driver.ready(resume_id="")
            driver.lose()
            driver.wait_for_attempt()
        driver.ready()
        driver.lose()
        driver.assert_next_attempt_in(1.4, 2.6)

    def test_after_a_stable_session_delays_begin_anew(self) -> None:
        driver = Driver()
        for _ in range(5):
            driver.lose(ConnectFailed("wss://hpb.example", "connection refused"))
            driver.wait_for_attempt()
        driver.ready()
        driver.now += 10.0
        driver.lose()
        driver.assert_next_attempt_in(0.3, 0.7)

    def test_retry_now_skips_the_pause(self) -> None:
        driver = Driver()
        driver.lose(ConnectFailed("wss://hpb.example", "connection refused"))
        assert not driver.session.wants_connection(driver.now)
        driver.session.retry_now(driver.now)
        assert driver.session.wants_connection(driver.now)

    def test_opening_twice_is_a_bug_of_the_shell(self) -> None:
        driver = Driver()
        driver.open()
        with pytest.raises(AssertionError, match="connection opened"):
            driver.session.connection_opened(driver.now)


class TestErrorsOfTheHello:
    """Specification: "Establish connection", error codes."""

    def test_wrong_internal_secret_is_retried_rarely(self) -> None:
        driver = Driver()
        driver.open()
        driver.server.refuse(driver.server.assert_hello_sent(), "invalid_token")
        assert driver.session.close_requested()
        driver.lose()
        disconnected = only(driver.events(), Disconnected)
        assert isinstance(disconnected.error, InternalSecretRefused)
        assert disconnected.retry_in_s == 240.0
        driver.assert_next_attempt_in(240.0, 240.0)
        assert "internalsecret" in str(driver.session.status().error)

    def test_a_person_may_ask_at_once_after_a_wrong_secret(self) -> None:
        driver = Driver()
        driver.open()
        driver.server.refuse(driver.server.assert_hello_sent(), "invalid_token")
        # Also while the shell is still closing the refused socket.
        driver.session.retry_now(driver.now)
        driver.lose()
        driver.ready()
        assert driver.session.status().error is None

    @pytest.mark.parametrize(
        ("code", "kind", "delay"),
        [
            ("invalid_backend", BackendNotAllowed, 240.0),
            ("invalid_client_type", InternalSecretRefused, 240.0),
            ("auth_failed", InternalSecretRefused, 240.0),
            ("too_many_requests", TooManyAttempts, 1800.0),
            ("strange", HelloRefused, 240.0),
        ],
    )
    def test_internal_client_waits_for_somebody_to_repair_it(
        self, code: str, kind: type[HelloRefused], delay: float
    ) -> None:
        driver = Driver()
        driver.open()
        driver.server.refuse(driver.server.assert_hello_sent(), code)
        driver.lose()
        disconnected = only(driver.events(), Disconnected)
        assert type(disconnected.error) is kind
        assert disconnected.retry_in_s == delay

    @pytest.mark.parametrize("code", ["internal_error", "session_limit_exceeded"])
    def test_temporary_trouble_is_retried_soon(self, code: str) -> None:
        driver = Driver(TICKET)
        driver.open()
        driver.server.refuse(driver.server.assert_hello_sent(), code)
        driver.lose()
        driver.assert_next_attempt_in(0.3, 0.7)

    def test_error_without_id_or_code_answers_the_hello_too(self) -> None:
        driver = Driver()
        driver.open()
        driver.server.say("error", {})
        error = only(driver.events(), Disconnected).error
        assert isinstance(error, HelloRefused)
        assert error.code == "unknown"

    @pytest.mark.parametrize(
        "code", ["invalid_ticket", "token_expired", "no_such_user", "invalid_request"]
    )
    def test_refused_user_credentials_are_final(self, code: str) -> None:
        driver = Driver(TICKET)
        driver.session.join(ROOM, now=driver.now, nc_session_id="nc-1")
        driver.open()
        driver.server.refuse(driver.server.assert_hello_sent(), code)
        assert driver.session.close_expected()
        events = driver.events()
        finished = only(events, SessionFinished)
        assert isinstance(finished.error, CredentialsRefused)
        assert only(events, RoomLeft).error is finished.error
        driver.lose()
        assert driver.events() == []
        assert not driver.session.wants_connection(driver.now + 1e6)
        assert driver.session.deadline() is None
