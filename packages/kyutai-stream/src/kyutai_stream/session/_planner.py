# SPDX-License-Identifier: MIT
"""What to do next on a ready connection: send, ask, leave, or wait for what is due.

No await, no clock.
"""

from __future__ import annotations

from ._absence import Absence
from ._actions import Action, AskFlush, AskKeepalive, Fail, Leave, Leaving, Send, Wait
from ._feeder import Feeder
from ._hearing import Hearing
from ._intake import Intake
from ._keeper import Keeper
from ._link import Link
from ._restarts import Restarts


class Planner:
    """Chooses among what the other parts have to do.

    Args:
        feeder: Has the frames.
        hearing: Knows whether words are open.
        restarts: May want a fresh recogniser.
        keeper: Gives up what is too old.
        absence: Knows whether the input ended.
        intake: Knows whether the caller fell silent.
    """

    def __init__(
        self,
        feeder: Feeder,
        hearing: Hearing,
        restarts: Restarts,
        keeper: Keeper,
        absence: Absence,
        intake: Intake,
    ) -> None:
        self._feeder = feeder
        self._hearing = hearing
        self._restarts = restarts
        self._keeper = keeper
        self._absence = absence
        self._intake = intake

    def next_action(self, link: Link, now: float) -> Action:
        """Say what to do next; to be asked again after it is done."""
        feeder = self._feeder
        failure = link.debts.failure(now)
        if now >= self._absence.end_due:
            failure = "the last words did not come in time"
        if failure is not None:
            return Fail(reason=failure)
        if link.must_leave(now):
            return Leave(why=Leaving.DRAINING)
        if link.debts.is_resetting:
            return Wait(until=link.due)
        if feeder.next_out is None:
            action = self._restarts.next_action(link, feeder, self._hearing, now)
            if action is not None:
                return action
            if now >= self._intake.idle_due and self._may_leave(link):
                return Leave(why=Leaving.IDLE)
            self._pull(link, now)
        return self._put_out(link, now) or self._rest(link, now)

    def is_busy(self, link: Link) -> bool:
        """Whether news of the connection may let something go on.

        Else it is not worth waking the feeder for each of the recogniser's steps.
        """
        feeder = self._feeder
        if link.debts.is_resetting or link.is_draining:
            return True
        if feeder.next_out is not None or feeder.marks or feeder.frame_is_complete:
            return True
        return self._absence.is_over

    # -- inside ------------------------------------------------------------------------

    def _pull(self, link: Link, now: float) -> None:
        """Get the next frames or a question out of the feeder."""
        feeder = self._feeder
        self._keeper.drop_late(now)
        if not feeder.touched:
            # Flushed already, or a flush is on its way that says the same.
            if link.debts.awaits_flush:
                feeder.join_flush()
            else:
                self._intake.confirm(None)
        if feeder.pull():
            self._restarts.loud(feeder.take_loud())
        elif feeder.unflushed and now >= self._intake.stall_due:
            feeder.flush()

    def _put_out(self, link: Link, now: float) -> Action | None:
        """Hand out what lies ready, if the window lets it."""
        out = self._feeder.next_out
        if isinstance(out, Send):
            at = link.send_at(now)
            if at > now:
                return Wait(until=min(at, link.due, self._absence.end_due))
        elif isinstance(out, AskFlush):
            link.debts.asked_flush(out.token, now)
        if out is not None:
            self._feeder.pop()
        return out

    def _rest(self, link: Link, now: float) -> Action:
        """Nothing to send: what else may be due."""
        if self._absence.is_over and not self._feeder.marks:
            return Leave(why=Leaving.FINISHED)
        due = min(link.due, self._absence.end_due, link.keepalive_due)
        if self._feeder.unflushed:
            due = min(due, self._intake.stall_due)
        elif self._may_leave(link):
            due = min(due, self._intake.idle_due)
        if now >= link.keepalive_due:
            return AskKeepalive()
        return Wait(until=due)

    def _may_leave(self, link: Link) -> bool:
        """Whether nothing would be lost by giving the place back."""
        feeder = self._feeder
        # After a cold start longer than the patience, speech may still wait.
        sound = feeder.ring.quiet_run() < feeder.ring.waiting
        owed = feeder.unflushed or feeder.marks or link.debts.are_open
        return not (sound or owed or self._hearing.is_open)
