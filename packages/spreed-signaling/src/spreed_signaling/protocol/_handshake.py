# SPDX-License-Identifier: MIT
"""Opening a session on a fresh socket: resumed if possible, else anew."""

from __future__ import annotations

from ..errors import HelloRefused, TooManyAttempts
from .auth import Auth
from .backoff import ReconnectDelays
from .messages import ClientHello, HelloReply, Welcome
from .outbox import Outbox
from .phases import SessionOptions

__all__ = ["Handshake"]


class Handshake:
    """What we say first on a socket, and who we are once it was answered.

    Args:
        auth: Who we are.
        options: Times.
    """

    def __init__(self, auth: Auth, options: SessionOptions) -> None:
        self.session_id: str | None = None
        self.features: frozenset[str] = frozenset()
        self._auth = auth
        self._options = options
        self._resuming = False
        self._resume_id: str | None = None
        self._lost_at = 0.0

    def begin(self, outbox: Outbox, now: float) -> None:
        """Post a hello that resumes the session, or opens a new one."""
        resume_id, self._resume_id = self._resume_id, None
        if not resume_id or now - self._lost_at > self._options.resume_window_s:
            self.begin_anew(outbox)
            return
        # "Resuming sessions". The id is spent now: the server may have lost its
        # keys, and counts every id that it cannot read against our address.
        self._resuming = True
        outbox.post(ClientHello(version="1.0", resume_id=resume_id))

    def begin_anew(self, outbox: Outbox) -> None:
        """Post a full hello."""
        self._resuming = False
        hello = ClientHello(
            version=self._auth.version,
            features=self._auth.features or None,
            auth=self._auth.hello_auth(),
        )
        outbox.post(hello)

    def receive_welcome(self, welcome: Welcome) -> None:
        """Remember the features in case the answer to the hello has none."""
        if welcome.features is not None:
            self.features = frozenset(welcome.features)

    def accept(self, reply: HelloReply) -> bool:
        """The hello was answered; returns whether the session goes on."""
        resumed = self._resuming and reply.session_id == self.session_id
        self._resuming = False
        self.session_id = reply.session_id
        self._resume_id = reply.resume_id
        if reply.server is not None and reply.server.features is not None:
            # Filtered by kind of client, unlike the welcome's.
            self.features = frozenset(reply.server.features)
        return resumed

    def must_begin_anew(self, code: str) -> bool:
        """Whether this refusal only means that the old session is gone."""
        return self._resuming and code == "no_such_session"

    def connection_lost(self, now: float) -> None:
        """The server keeps the session for a while from now on."""
        self._lost_at = now

    def forget(self) -> None:
        """The server ended the session: it cannot be resumed."""
        self._resume_id = None

    def pause(self, error: HelloRefused, delays: ReconnectDelays) -> float | None:
        """Return the seconds until the next attempt; None if there is none."""
        if error.retryable:
            return delays.next()
        if isinstance(error, TooManyAttempts):
            return self._options.blocked_delay_s
        if self._auth.internal:
            # A wrong setting on either side: somebody will repair it.
            return self._options.refused_delay_s
        return None
