"""
Carry out a replay: select, send a few and wait for them, send the rest at a pace.
"""

from __future__ import annotations

import logging
import time
import uuid
from itertools import islice
from typing import TYPE_CHECKING, Any

from celery_platform.audit import whoever
from celery_platform.clock import SYSTEM
from celery_platform.dead_letters.selection import Selection
from celery_platform.errors import DeadLetterError
from celery_platform.replay.patching import patched
from celery_platform.replay.plan import ReplayReport
from celery_platform.replay.sending import publish, queue_for, slim
from celery_platform.stores.redis_replays import RedisReplays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celery_platform.celery_app import Platform
    from celery_platform.dead_letters import DeadLetter
    from celery_platform.replay.plan import ReplayPlan

__all__ = ["Replay"]

logger = logging.getLogger("celery_platform.replay")

_LOOK = 0.2
_FAILED = frozenset({"FAILURE"})


class Replay:
    """
    One replay of *plan* on *platform*.

    Raises `UnknownQueue` at once when the plan names a queue nobody declared.
    """

    def __init__(self, platform: Platform, plan: ReplayPlan) -> None:
        if plan.to is not None:
            platform.router.known(plan.to)
        platform.app.loader.import_default_modules()
        self.plan = plan
        self.name = plan.key
        self._platform = platform
        self._letters = platform.dead_letters
        self._replays = RedisReplays(platform.state)
        self._passed_over: list[tuple[str, str]] = []
        self._sent = 0

    def preview(self) -> Sequence[DeadLetter]:
        """
        Return the letters that would be sent, edited as the plan says; nothing is sent, nothing is changed.

        Raises `DeadLetterError` or `PayloadInvalid` for an edit that does not fit one of them.
        """
        self._passed_over = []
        return list(self._prepared(self._ids(SYSTEM.now() + 1)))

    @property
    def passed_over(self) -> tuple[tuple[str, str], ...]:
        """
        The letters that cannot be sent, each with the reason.
        """
        return tuple(self._passed_over)

    def run(self, progress: Callable[[int, int], object] | None = None) -> ReplayReport:
        """
        Send the letters, and return what was done; *progress* hears after each how many of how many are sent.

        Raises `DeadLetterError` or `PayloadInvalid` for an edit that does not fit, before anything is sent;
        `PublishFailed` or `StoreError` when broker or store go away: the same plan goes on later.
        """
        known = self._begin()
        if known["state"] != "running":
            return self._report(known["state"])
        ids = self._ids(float(known["until"]))
        if self.plan.edit:
            # All of them first: an edit that does not fit one must not leave half of them sent.
            for _ in self._prepared(ids):
                pass
        self._passed_over = []
        total = int(known["sent"]) + len(ids)
        pace = _Pace(self.plan.rate)
        tell = progress or _nobody
        if self.plan.canary and known.get("canary") != "passed":
            state = self._canary(ids, pace, lambda: tell(int(known["sent"]) + self._sent, total))
            if state != "passed":
                return self._end(state, ids)
            self._replays.set(self.name, canary="passed")
        for letter in self._prepared(ids):
            pace.wait()
            self._send(letter, watched=False)
            tell(int(known["sent"]) + self._sent, total)
        return self._end("done", ids)

    def _begin(self) -> dict[str, str]:
        facts = {
            "until": repr(SYSTEM.now()),
            "started": repr(SYSTEM.now()),
            "actor": self.plan.actor or whoever(),
            "because": self.plan.because,
            "what": self.plan.where.told(),
        }
        return self._replays.begin(self.name, facts, anew=self.plan.name is None)

    def _ids(self, until: float) -> Sequence[str]:
        where = self.plan.where
        before = until if where.until is None else min(where.until, until)
        bounded = Selection(
            ids=where.ids,
            **where.tags,
            text=where.text,
            since=where.since,
            until=before,
        )
        return self._letters.ids(bounded)

    def _prepared(self, ids: Sequence[str]) -> Iterator[DeadLetter]:
        if self.plan.limit is None:
            return self._sendable(ids)
        sent = int(self._replays.read(self.name).get("sent") or 0)
        return islice(self._sendable(ids), max(self.plan.limit - sent, 0))

    def _sendable(self, ids: Sequence[str]) -> Iterator[DeadLetter]:
        for letter_id in ids:
            letter = self._letters.find(letter_id)
            if letter is None or not letter.message:
                continue  # sent, expired or removed meanwhile
            if letter.reason == "poison" and not self.plan.takes_poison:
                self._passed_over.append((letter_id, "a poison pill is sent only when it is named"))
                continue
            try:
                letter.arguments()
            except DeadLetterError as error:
                self._passed_over.append((letter_id, str(error)))
                continue
            yield patched(self._platform, letter, self.plan.edit) if self.plan.edit else letter

    def _send(self, letter: DeadLetter, *, watched: bool) -> None:
        graves = self._letters.graves
        taken = graves.take(letter.id, str(uuid.uuid4()))
        if taken.state != "claimed":
            return
        if watched:
            self._replays.expect(self.name, taken.call_id)
        queue = queue_for(self._platform, letter, self.plan.to)
        publish(self._platform, letter, taken.call_id, queue, replay=self.name if watched else None)
        self._sent += graves.sent(letter.id, slim(letter, taken.call_id), queue=queue, replay=self.name)

    def _canary(self, ids: Sequence[str], pace: _Pace, tell: Callable[[], object]) -> str:
        letters = self._prepared(ids)
        while len(self._replays.ends(self.name)) < self.plan.canary and (letter := next(letters, None)) is not None:
            pace.wait()
            self._send(letter, watched=True)
            tell()
        deadline = time.monotonic() + self.plan.canary_wait
        while True:
            ended, failed, birds = self._judged()
            if failed and failed >= self.plan.stop_if_fail * birds:
                return "stopped"
            if ended == birds:
                pace.restart()
                return "passed"
            if time.monotonic() > deadline:
                return "waiting"
            time.sleep(_LOOK)

    def _judged(self) -> tuple[int, int, int]:
        ends = self._replays.ends(self.name)
        for call_id, state in ends.items():
            # A process that was killed notes nothing; its letter tells.
            if not state and self._letters.graves.is_open(call_id):
                self._replays.ended(self.name, call_id, "FAILURE")
                ends[call_id] = "FAILURE"
        return sum(map(bool, ends.values())), sum(state in _FAILED for state in ends.values()), len(ends)

    def _end(self, state: str, ids: Sequence[str]) -> ReplayReport:
        if state != "waiting":
            self._replays.set(self.name, state=state)
        what = f"{self.plan.where.told()} ({self.name}, {state}, {len(ids)} selected)"
        self._letters.note("replay", what, self._sent, self.plan.actor, self.plan.because)
        return self._report(state)

    def _report(self, state: str) -> ReplayReport:
        ended, failed, _ = self._judged()
        return ReplayReport(
            name=self.name,
            state=state,
            sent=self._sent,
            total=int(self._replays.read(self.name).get("sent") or 0),
            canary_failed=failed,
            canary_ended=ended,
            passed_over=self.passed_over,
        )


class _Pace:
    """At most *rate* turns a second, evenly; a late turn is not made up for by a burst of more than one second."""

    def __init__(self, rate: float | None) -> None:
        self._step = 0.0 if rate is None else 1 / rate
        self._next = time.monotonic()

    def wait(self) -> None:
        """
        Wait for the next turn.
        """
        now = time.monotonic()
        self._next = max(self._next, now - 1.0)
        if self._next > now:
            time.sleep(self._next - now)
        self._next += self._step

    def restart(self) -> None:
        """
        Let the next turn be now.
        """
        self._next = time.monotonic()


def _nobody(_: Any, __: Any) -> None:
    return None
