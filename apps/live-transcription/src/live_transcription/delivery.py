# SPDX-License-Identifier: AGPL-3.0-or-later
"""What the speakers say, on its way to the readers: by the policy, through the room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import anyio

from spreed_signaling import Room, SignalingError

from .captions import CaptionPolicy, CaptionRules
from .notices import Notice

__all__ = ["CaptionDelivery"]

_REMEMBERED_REQUESTS = 1000


class CaptionDelivery:
    """One call's captions. Nothing here waits; the speakers' `CaptionListener`.

    Args:
        rules: Of the policy.
        room: The room we are in; None while there is none.
        wanted: Whether anybody asked for captions and may get them.
    """

    def __init__(
        self,
        rules: CaptionRules,
        *,
        room: Callable[[], Room | None],
        wanted: Callable[[], bool],
    ) -> None:
        self._policy = CaptionPolicy(rules)
        self._room = room
        self._wanted = wanted
        self._requests: deque[str] = deque(maxlen=_REMEMBERED_REQUESTS)
        self.changed = anyio.Event()
        """Set, and replaced by a new one, each time that something happened here."""
        self.sent = 0
        self.undelivered = 0

    # CaptionListener: what the speakers say.

    @property
    def wanted(self) -> bool:
        """Whether anybody asked for captions and may get them."""
        return self._wanted()

    def partial(self, session_id: str, text: str, lang_id: str) -> None:
        """A sentence grew."""
        self._policy.partial(session_id, text, lang_id, anyio.current_time())
        self._send()

    def final(self, session_id: str, text: str, lang_id: str) -> None:
        """A sentence is complete."""
        self._policy.final(session_id, text, lang_id, anyio.current_time())
        self._send()

    def notice(self, session_id: str, notice: Notice, lang_id: str) -> None:
        """Words are missing or late."""
        self._policy.notice(session_id, notice, lang_id, anyio.current_time())
        self._send()

    def close(self, session_id: str) -> None:
        """No more words of the open sentence will come."""
        self._policy.close(session_id, anyio.current_time())
        self._send()

    def forget(self, session_id: str) -> None:
        """A speaker is gone, and her session id with her."""
        self._policy.forget(session_id, anyio.current_time())
        self._send()

    # The call: who reads, and what became of it.

    def set_readers(self, session_ids: Iterable[str]) -> None:
        """Set who gets captions from now on, by HPB session id."""
        self._policy.set_readers(session_ids, anyio.current_time())
        self._send()

    def note_error(self, request_id: str) -> None:
        """The server refused a request; others than ours are ignored."""
        if request_id in self._requests:
            # A reader who has just left; the others are not concerned.
            self.undelivered += 1

    def stop(self) -> None:
        """Send everything that waits, as finals."""
        self._policy.stop(anyio.current_time())
        self._send()

    # Time.

    def deadline(self) -> float | None:
        """Return when `tick` must be called next; None if never."""
        return self._policy.deadline()

    def tick(self) -> None:
        """Send what is due."""
        self._policy.tick(anyio.current_time())
        self._send()

    def _send(self) -> None:
        room = self._room()
        for message in self._policy.messages_to_send():
            if room is None:
                self.undelivered += 1
                continue
            try:
                request_id = room.send_data(message.reader_session_id, message.data())
            except SignalingError:
                # The session is over; its end is reported elsewhere.
                self.undelivered += 1
                continue
            self._requests.append(request_id)
            self.sent += 1
        changed, self.changed = self.changed, anyio.Event()
        changed.set()
