"""
Keep the guards' state on Redis: one script before a call, one after it, times from the server.
"""

from __future__ import annotations

import json
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from celery_platform.stores.guard_keys import GuardKeys
from celery_platform.stores.guard_state import CallRecord, Entry
from celery_platform.stores.guard_wire import (
    admission_of,
    admit_body,
    claim_body,
    claimed_of,
    renew_body,
    rule_keys,
    settle_body,
    settled_of,
)
from celery_platform.stores.redis import told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from redis import Redis

    from celery_platform.stores.guard_state import Admitted, Claim, Claimed, Refused, Request, Settled, Settlement
    from celery_platform.stores.redis import RedisStore

__all__ = ["RedisGuards"]

# How long a mark of `cancel` waits for its call, in seconds: longer than any delay people ask for in practice.
CANCEL_MARK = 7 * 86_400.0
# How long a state set by an operator lasts without an end of its own, in seconds.
_FORCED = 30 * 86_400.0


class RedisGuards:
    """
    The guards' state of one namespace on the server of *store*.

    Every method raises `StoreError` when the server cannot be reached.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.keys = GuardKeys(store.keys.namespace)
        self._records = self.keys.record("")

    def claim(self, claim: Claim) -> Claimed:
        """
        Take an idempotency key for a call that is being enqueued, or say who holds it.
        """
        keys = [self.keys.claim(claim.task, claim.rule.key), self._records]
        return claimed_of(self._run("claim", keys, claim_body(claim)))

    def unclaim(self, claim: Claim) -> None:
        """
        Give back the key of a call that could not be published.
        """
        self.release(claim.task, claim.rule.key, owner=claim.call_id)

    def admit(self, request: Request) -> Admitted | Refused:
        """
        Admit the call under all its rules, or take nothing and say which rule refused.
        """
        of = self.keys.of
        keys = [of("pauses"), of("cancelled"), of("fence"), of("limits"), self.keys.record(request.call_id)]
        keys += rule_keys(request.rules, request.task, self.keys)
        return admission_of(self._run("admit", keys, admit_body(request, self._records)))

    def settle(self, request: Request, admitted: Admitted, settlement: Settlement) -> Settled:
        """
        Tell the guards how the admitted call ended.
        """
        keys = [self.keys.record(request.call_id), *rule_keys(request.rules, request.task, self.keys)]
        return settled_of(self._run("settle", keys, settle_body(request, admitted, settlement, self._records)))

    def renew(self, request: Request) -> tuple[bool, bool]:
        """
        Keep what the running call holds for another lease; answer (still held, cancelled).
        """
        keys = [self.keys.of("cancelled"), self.keys.record(request.call_id)]
        keys += rule_keys(request.rules, request.task, self.keys)
        held, cancelled = self._run("renew", keys, renew_body(request))
        return bool(held), bool(cancelled)

    def release(self, task: str, key: str, *, owner: str = "") -> bool:
        """
        Free an idempotency key, of *owner* only when one is given; answer whether it was held.

        A holder that still runs is fenced: its result is not recorded.
        """
        return bool(self._run("release", [self.keys.claim(task, key), self._records], owner))

    def locks(self, limit: int = 1000) -> Sequence[Entry]:
        """
        Return the claims held now, at most *limit*, each with the state of its owner.
        """
        return [self._with_owner(entry) for entry in self._entries("claim", limit)]

    def breakers(self, limit: int = 1000) -> Sequence[Entry]:
        """
        Return the breakers that have been asked lately, at most *limit*.
        """
        return list(self._entries("breaker", limit))

    def force(self, breaker: str, state: str, *, seconds: float | None = None, reason: str = "") -> str:
        """
        Put *breaker* into *state* for *seconds* (30 days by default); return the state it was in.
        """
        lasting = _FORCED if seconds is None else seconds
        keys = [self.keys.of("breaker", breaker), self.keys.of("permits", breaker)]
        before: bytes = self._run("force", keys, state, round(lasting * 1000), reason)
        return before.decode()

    def limits(self, limit: int = 1000) -> Sequence[Entry]:
        """
        Return the limits in use now, at most *limit*.
        """
        found: list[Entry] = []
        for kind in ("rate", "log", "slots"):
            found += self._entries(kind, limit)
        return found[:limit]

    def change_limit(self, name: str, change: dict[str, Any] | None) -> None:
        """
        Let *change* (``limit``, ``per`` in ms, ``burst``, ``slots``, ``dry_run``) win over the code; None ends that.
        """
        with told():
            if change is None:
                self._client.hdel(self.keys.of("limits"), name)
            else:
                self._client.hset(self.keys.of("limits"), name, json.dumps(change))

    def changed_limits(self) -> dict[str, dict[str, Any]]:
        """
        Return the live changes of limits by name.
        """
        with told():
            return {_text(name): json.loads(value) for name, value in self._hash("limits").items()}

    def pause(self, subject: str, *, reason: str, until: float = 0.0) -> None:
        """
        Pause *subject* (``queue:x``, ``task:y``, ``key:z``) until a Unix time, or until it is resumed.
        """
        with told():
            body = json.dumps({"reason": reason, "until": round(until * 1000)})
            self._client.hset(self.keys.of("pauses"), subject, body)

    def resume(self, subject: str) -> bool:
        """
        End a pause; answer whether there was one.
        """
        with told():
            return bool(self._client.hdel(self.keys.of("pauses"), subject))

    def pauses(self) -> dict[str, dict[str, Any]]:
        """
        Return the pauses in force, by subject: ``reason`` and ``until`` (Unix ms, 0 without an end).
        """
        with told():
            now = self._now() * 1000
            found = {_text(name): json.loads(value) for name, value in self._hash("pauses").items()}
        return {name: pause for name, pause in found.items() if pause["until"] == 0 or pause["until"] > now}

    def cancel(self, call_id: str) -> CallRecord | None:
        """
        Mark a call as cancelled for a week, and return what is known of it.
        """
        with told():
            now = self._now() * 1000
            pipe = self._client.pipeline(transaction=True)
            pipe.zadd(self.keys.of("cancelled"), {call_id: now + CANCEL_MARK * 1000})
            pipe.zremrangebyscore(self.keys.of("cancelled"), "-inf", now)
            pipe.execute()
        return self.call(call_id)

    def uncancel(self, call_id: str) -> None:
        """
        Take back the mark of `cancel`.
        """
        with told():
            self._client.zrem(self.keys.of("cancelled"), call_id)

    def cancelled(self, call_id: str) -> bool:
        """
        Tell whether a call is marked as cancelled.
        """
        with told():
            return self._client.zscore(self.keys.of("cancelled"), call_id) is not None

    def board(self) -> tuple[dict[str, dict[str, Any]], int]:
        """
        Return what every worker must know within two seconds: the pauses, and how many calls are marked as cancelled.
        """
        pauses = self.pauses()
        with told():
            return pauses, int(self._client.zcard(self.keys.of("cancelled")))

    def call(self, call_id: str) -> CallRecord | None:
        """
        Return the record of a guarded call that waits, runs or is done, or nothing.
        """
        with told():
            fields = _fields(self._client.hgetall(self.keys.record(call_id)))
        return CallRecord(fields.get("state", "waiting"), fields) if fields else None

    def step(self, call_id: str, name: str, value: str | None = None, *, ttl: float = 86_400.0) -> str | None:
        """
        Return what `once` recorded for a step of a call; with *value*, record it first.
        """
        key = self.keys.of("steps", call_id)
        with told():
            if value is not None:
                pipe = self._client.pipeline(transaction=True)
                pipe.hset(key, name, value)
                pipe.pexpire(key, round(ttl * 1000))
                pipe.execute()
            found = self._client.hget(key, name)
        return None if found is None else _text(found)

    @cached_property
    def _scripts(self) -> dict[str, Any]:
        folder = files("celery_platform.stores") / "lua"
        names = ("claim", "admit", "settle", "renew", "release", "force")
        return {name: self._client.register_script((folder / f"{name}.lua").read_text()) for name in names}

    @property
    def _client(self) -> Redis:
        return self._store.client

    def _run(self, script: str, keys: Sequence[str], *arguments: str | int) -> Any:
        with told():
            return self._scripts[script](keys=keys, args=arguments)

    def _hash(self, name: str) -> dict[Any, Any]:
        found: dict[Any, Any] = self._client.hgetall(self.keys.of(name))
        return found

    def _now(self) -> float:
        seconds, micros = self._client.time()
        return float(seconds) + float(micros) / 1e6

    def _entries(self, kind: str, limit: int) -> Iterator[Entry]:
        prefix = self.keys.of(kind, "") + ":"
        with told():
            for raw in self._client.scan_iter(match=f"{prefix}*", count=1000):
                if limit <= 0:
                    return
                limit -= 1
                key = _text(raw)
                ttl = self._client.pttl(key)
                yield Entry(key.removeprefix(prefix), self._read(key), ttl / 1000 if ttl >= 0 else None)

    def _read(self, key: str) -> dict[str, str]:
        kind = _text(self._client.type(key))
        if kind == "hash":
            return _fields(self._client.hgetall(key))
        if kind == "zset":
            return {"members": str(self._client.zcard(key))}
        return {}

    def _with_owner(self, entry: Entry) -> Entry:
        owner = entry.fields.get("owner") or entry.fields.get("running", "")
        record = self.call(owner) if owner else None
        shown = {name: record.fields[name] for name in ("fence", "lease") if name in record.fields} if record else {}
        return Entry(entry.name, {**entry.fields, **shown, "state": record.state if record else "waiting"}, entry.ttl)


def _fields(found: Mapping[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in found.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
