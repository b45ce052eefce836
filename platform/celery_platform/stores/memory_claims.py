"""
Idempotency keys in this process's memory.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_platform.stores.guard_state import Claimed, Settled
from celery_platform.stores.memory_records import Verdict

if TYPE_CHECKING:
    from celery_platform.stores.guard_state import Claim, ClaimRule, Request, Settlement
    from celery_platform.stores.memory_records import Record, Records

__all__ = ["MemoryClaims"]


@dataclass(slots=True)
class Held:
    """One key; *owner*, *frozen* and *running* are call ids."""

    since: float
    expires: float
    owner: str = ""
    fingerprint: str = ""
    first: float = 0.0
    due: float = 0.0
    frozen: str = ""
    running: str = ""


class MemoryClaims:
    """The keys of all tasks."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._held: dict[tuple[str, str], Held] = {}
        self._fence = 0

    def enqueue(self, claim: Claim) -> Claimed:
        """
        Take the key of *claim*, or say who holds it.
        """
        rule, held = claim.rule, self._get(claim.task, claim.rule.key)
        if rule.scope == "latest_wins":
            return self._newest(claim, held)
        if held is None or not held.owner or held.owner == claim.call_id:
            return self._take(claim)
        record = self._records.get(held.owner)
        state = record.state if record else "waiting"
        dead = record is not None and state == "running" and record.lease <= self._records.now()
        if dead or (state == "done" and rule.scope != "until_ttl"):
            return self._take(claim)
        age = self._records.now() - held.since
        if held.fingerprint != rule.fingerprint:
            return Claimed("mismatch", held.owner, state, age)
        if rule.conflict == "replace" and state not in {"running", "done"}:
            return self._take(claim)
        named = {"defer": "unclaimed", "raise": "raise", "drop": "drop"}
        return Claimed(named.get(rule.conflict, "duplicate"), held.owner, state, age)

    def check(self, rule: ClaimRule, request: Request) -> Verdict:
        """
        Say whether the call may run under its key.
        """
        now, call_id = self._records.now(), request.call_id
        record = self._records.get(call_id)
        if record is not None and record.state == "done":
            return self._done(rule, call_id, record)
        if record is not None and record.state == "running" and record.nonce != request.nonce and record.lease > now:
            return self._no(rule, "running", record.lease - now + 0.05, holder=call_id, waits=True)
        held = self._get(request.task, rule.key)
        refusal = None
        if rule.scope == "latest_wins":
            refusal = self._check_latest(rule, held, call_id)
        elif held is not None and held.owner not in {"", call_id}:
            started = rule.scope == "until_start" and record is not None and record.started
            refusal = None if started else self._check_holder(rule, held)
        return refusal or Verdict(rule.key, commit=lambda: self._start(rule, request))

    def settle(self, rule: ClaimRule, request: Request, settlement: Settlement) -> Settled:
        """
        Record how the run ended, unless another run has taken over.
        """
        record, now = self._records.get(request.call_id), self._records.now()
        held = self._get(request.task, rule.key)
        if record is None or record.nonce != request.nonce:
            return self._fenced(rule, record, held)
        record.nonce, record.lease = "", 0.0
        mine = held is not None and held.owner == request.call_id
        if settlement.ending == "done":
            record.state, record.result, record.expires = "done", settlement.result, now + rule.keep
            if rule.scope == "until_ttl" and held is not None and mine:
                held.expires = now + rule.keep
            elif rule.scope != "until_ttl":
                self._leave(request.task, rule.key, request.call_id)
        elif settlement.ending == "waiting":
            record.state, record.expires = "waiting", now + rule.hold + settlement.delay
            if rule.scope in {"while_running", "latest_wins"}:
                self._leave(request.task, rule.key, request.call_id)
            elif held is not None and mine:
                held.expires = now + rule.hold + settlement.delay
        else:
            self._leave(request.task, rule.key, request.call_id)
            self._records.drop(request.call_id)
        return Settled()

    def renew(self, rule: ClaimRule, request: Request) -> bool:
        """
        Extend the hold of a running call; False when another run has it.
        """
        record, now = self._records.get(request.call_id), self._records.now()
        if record is None or record.nonce != request.nonce:
            return False
        record.lease, record.expires = now + rule.lease, now + rule.hold + rule.lease
        held = self._get(request.task, rule.key)
        if held is not None and request.call_id in {held.owner, held.running}:
            held.expires = now + (rule.lease if rule.scope == "while_running" else rule.hold)
        return True

    def release(self, task: str, key: str, *, owner: str = "") -> bool:
        """
        Free a key, of *owner* only when one is given.
        """
        held = self._get(task, key)
        holder = "" if held is None else held.owner or held.running
        if not holder or (owner and holder != owner):
            return False
        del self._held[task, key]
        record = self._records.get(holder)
        if record is not None and record.state == "running":
            self._records.drop(holder)
        return True

    def _get(self, task: str, key: str) -> Held | None:
        held = self._held.get((task, key))
        if held is not None and held.expires <= self._records.now():
            del self._held[task, key]
            return None
        return held

    def _take(self, claim: Claim) -> Claimed:
        now = self._records.now()
        self._held[claim.task, claim.rule.key] = Held(now, now + claim.rule.hold, claim.call_id, claim.rule.fingerprint)
        return Claimed("new")

    def _newest(self, claim: Claim, held: Held | None) -> Claimed:
        rule, now = claim.rule, self._records.now()
        if held is None:
            held = self._held[claim.task, rule.key] = Held(now, now)
        if not held.owner:
            held.first = now
        elif held.owner != claim.call_id and held.due <= now:
            held.frozen = held.frozen or held.owner
            held.first = now
        held.due = now + rule.delay
        if rule.max_wait > 0:
            held.due = min(held.due, held.first + rule.max_wait)
        held.owner, held.fingerprint, held.since = claim.call_id, rule.fingerprint, now
        held.expires = now + rule.hold + rule.delay
        return Claimed("new", delay=max(held.due - now, 0.0))

    def _check_latest(self, rule: ClaimRule, held: Held | None, call_id: str) -> Verdict | None:
        record = self._records.get(call_id)
        if held is None:
            return None
        started = record is not None and record.started
        known = held.owner or held.frozen or held.running
        if not started and call_id not in {held.owner, held.frozen} and known:
            return self._no(rule, "superseded", 0.0, holder=held.owner, waits=False)
        other = self._records.get(held.running) if held.running not in {"", call_id} else None
        if other is not None and other.state == "running" and other.lease > self._records.now():
            return self._no(rule, "running", 0.5 + random.random() / 2, holder=held.running, waits=True)  # noqa: S311
        return None

    def _check_holder(self, rule: ClaimRule, held: Held) -> Verdict | None:
        record = self._records.get(held.owner)
        state = record.state if record else "waiting"
        if record is not None and state == "running" and record.lease <= self._records.now():
            return None
        if (state == "done" and rule.scope != "until_ttl") or (state != "running" and rule.scope == "while_running"):
            return None
        if rule.scope != "while_running" and held.fingerprint != rule.fingerprint:
            return self._no(rule, "mismatch", 0.0, holder=held.owner, state=state, waits=False)
        if record is not None and state == "done":
            return self._done(rule, held.owner, record)
        if rule.conflict == "defer":
            delay = 0.5 * (1 + random.random())  # noqa: S311
            return self._no(rule, state, delay, holder=held.owner, state=state, waits=True)
        return self._no(rule, "duplicate", 0.0, holder=held.owner, state=state, waits=False)

    def _start(self, rule: ClaimRule, request: Request) -> int:
        self._fence += 1
        now, call_id = self._records.now(), request.call_id
        record = self._records.make(call_id)
        record.state, record.nonce, record.started = "running", request.nonce, True
        record.lease, record.expires = now + rule.lease, now + rule.hold + rule.lease
        held = self._get(request.task, rule.key)
        if rule.scope == "until_start":
            self._leave(request.task, rule.key, call_id)
            return self._fence
        if held is None:
            held = self._held[request.task, rule.key] = Held(now, now)
        if rule.scope == "latest_wins":
            held.owner = "" if held.owner == call_id else held.owner
            held.frozen = "" if held.frozen == call_id else held.frozen
            held.running = call_id
        else:
            held.owner, held.fingerprint = call_id, rule.fingerprint
        held.expires = now + (rule.lease if rule.scope == "while_running" else rule.hold)
        return self._fence

    def _leave(self, task: str, key: str, call_id: str) -> None:
        held = self._get(task, key)
        if held is None:
            return
        if held.owner == call_id:
            del self._held[task, key]
            return
        held.running = "" if held.running == call_id else held.running
        held.frozen = "" if held.frozen == call_id else held.frozen

    def _fenced(self, rule: ClaimRule, record: Record | None, held: Held | None) -> Settled:
        if record is not None:
            return Settled(fenced=True, result=record.result)
        owner = self._records.get(held.owner) if held is not None and rule.scope != "while_running" else None
        return Settled(fenced=True, result=owner.result if owner else None)

    def _done(self, rule: ClaimRule, holder: str, record: Record) -> Verdict:
        return self._no(rule, "done", 0.0, holder=holder, state="done", result=record.result, waits=False)

    def _no(self, rule: ClaimRule, why: str, delay: float, **more: object) -> Verdict:
        return Verdict.refusing("idempotency", rule.key, why, delay=delay, **more)
