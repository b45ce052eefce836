"""
Translate between the guards' values and the JSON that the scripts read and write; milliseconds on the wire.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from celery_platform.stores.guard_state import (
    Admitted,
    BreakerRule,
    BudgetRule,
    Claimed,
    ClaimRule,
    Move,
    RateRule,
    Refused,
    Settled,
    SlotRule,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_platform.stores.guard_keys import GuardKeys
    from celery_platform.stores.guard_state import Claim, Request, Rule, Settlement

__all__ = [
    "admission_of",
    "admit_body",
    "claim_body",
    "claimed_of",
    "ms",
    "renew_body",
    "rule_keys",
    "settle_body",
    "settled_of",
]

_DURATIONS = frozenset({
    "keep", "hold", "lease", "delay", "max_wait", "window", "slow_call", "cool_down", "longest", "per",
})  # fmt: skip


def ms(duration: float) -> int:
    """
    Return *duration* (seconds) in whole milliseconds, at least 1 for anything above zero.
    """
    return max(round(duration * 1000), 1) if duration > 0 else 0


def rule_keys(rules: Sequence[Rule], task: str, keys: GuardKeys) -> list[str]:
    """
    Return the keys of *rules*, in the order in which the scripts expect them.
    """
    names: list[str] = []
    for rule in rules:
        if isinstance(rule, ClaimRule):
            names.append(keys.claim(task, rule.key))
        elif isinstance(rule, BreakerRule):
            names += [keys.of("breaker", rule.id), keys.of("permits", rule.id)]
        elif isinstance(rule, BudgetRule):
            names.append(keys.of("budget", rule.id))
        elif isinstance(rule, RateRule):
            names.append(keys.of("log" if rule.sliding else "rate", rule.id))
        else:
            names += [keys.of("slots", rule.id), keys.of("waiting", rule.id), keys.of("mean", rule.id)]
    return names


def claim_body(claim: Claim) -> str:
    """
    Return the argument of ``claim.lua``.
    """
    return json.dumps({"id": claim.call_id, "task": claim.task, **_rule(claim.rule)})


def admit_body(request: Request, prefix: str) -> str:
    """
    Return the argument of ``admit.lua``.
    """
    return json.dumps(
        {
            "id": request.call_id,
            "task": request.task,
            "nonce": request.nonce,
            "prefix": prefix,
            "subjects": list(request.subjects),
            "failures": request.failures,
            "drop": dict.fromkeys(request.dropping, True),
            "jitter": random.random(),  # noqa: S311 - spreads wake-ups
            "rules": [_rule(rule) for rule in request.rules],
        }
    )


def settle_body(request: Request, admitted: Admitted, settlement: Settlement, prefix: str) -> str:
    """
    Return the argument of ``settle.lua``.
    """
    return json.dumps(
        {
            "id": request.call_id,
            "nonce": request.nonce,
            "prefix": prefix,
            "ending": settlement.ending,
            "result": settlement.result,
            "ran": settlement.ran * 1000,
            "delay": ms(settlement.delay),
            "jitter": random.random(),  # noqa: S311
            "rules": [_settled_rule(rule, admitted, settlement) for rule in request.rules],
        }
    )


def renew_body(request: Request) -> str:
    """
    Return the argument of ``renew.lua``.
    """
    rules = [_rule(rule) for rule in request.rules]
    return json.dumps({"id": request.call_id, "nonce": request.nonce, "rules": rules})


def claimed_of(answer: bytes) -> Claimed:
    """
    Read the answer of ``claim.lua``.
    """
    found = json.loads(answer)
    return Claimed(
        verdict=found["verdict"],
        holder=found.get("holder", ""),
        state=found.get("state", ""),
        age=found.get("age", 0) / 1000,
        delay=found.get("delay", 0) / 1000,
    )


def admission_of(answer: bytes) -> Admitted | Refused:
    """
    Read the answer of ``admit.lua``.
    """
    found: dict[str, Any] = json.loads(answer)
    if found["ok"]:
        breakers = {name: int(epoch) for name, (epoch, _) in (found["breakers"] or {}).items()}
        return Admitted(found["fence"], breakers, _moves(found), tuple(found["over"] or ()))
    return Refused(
        guard=found["guard"],
        id=found["id"],
        why=found.get("why") or "",
        delay=found["delay"] / 1000,
        waits=bool(found.get("wait")) or found["guard"] not in {"idempotency", "cancel"},
        waited=found.get("waited", 0) / 1000,
        holder=found.get("holder") or "",
        state=found.get("state") or "",
        result=found.get("result"),
        moved=_moves(found),
    )


def settled_of(answer: bytes) -> Settled:
    """
    Read the answer of ``settle.lua``.
    """
    found = json.loads(answer)
    return Settled(found["fenced"], found.get("result"), _moves(found))


def _rule(rule: Rule) -> dict[str, Any]:
    kind = _KINDS[type(rule)]
    body = {name: ms(value) if name in _DURATIONS else value for name, value in asdict(rule).items()}
    if not isinstance(rule, ClaimRule):
        body["name"] = rule.id.partition("|")[0]
    return {"kind": kind, **body}


def _settled_rule(rule: Rule, admitted: Admitted, settlement: Settlement) -> dict[str, Any]:
    body = _rule(rule)
    if isinstance(rule, BreakerRule):
        body["epoch"] = admitted.breakers.get(rule.id, -1)
        body["verdict"] = settlement.verdicts.get(rule.id, "ignored")
    elif isinstance(rule, RateRule):
        body["actual"] = settlement.actual.get(rule.id, rule.cost)
    return body


_KINDS: dict[type, str] = {
    ClaimRule: "claim",
    BreakerRule: "breaker",
    RateRule: "rate",
    SlotRule: "slots",
    BudgetRule: "budget",
}


def _moves(found: dict[str, Any]) -> tuple[Move, ...]:
    return tuple(Move(*move) for move in found.get("moved") or ())
