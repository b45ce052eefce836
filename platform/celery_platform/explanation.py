"""
Explain a call in one sentence: why it is not running, or how it ended; and what it has waited for.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from celery_platform.clock import moment

if TYPE_CHECKING:
    from celery_platform.celery_app import Platform
    from celery_platform.stores.guard_state import CallRecord

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    What is known of the call *id*: one *sentence*, its *state*, and each deferral of its *history*.

    *known* is false when there is no trace of it.
    """

    id: str
    sentence: str
    state: str
    deferrals: int
    history: list[dict[str, Any]]
    known: bool

    def to_json(self) -> dict[str, Any]:
        """
        Return it as plain values, without *known*.
        """
        shown = asdict(self)
        del shown["known"]
        return shown


def explain(platform: Platform, call_id: str) -> Explanation:
    """
    Return what the state store and the results know of the call *call_id*.

    Raises `StoreError` when the state store cannot be reached.
    """
    record = platform.guards.call(call_id)
    result = platform.app.AsyncResult(call_id).state
    known = record is not None or result != "PENDING" or platform.guards.cancelled(call_id)
    return Explanation(
        id=call_id,
        sentence=_sentence(platform, call_id, record, result),
        state=record.state if record else result.lower(),
        deferrals=int(record.fields.get("n", 0)) if record else 0,
        history=[] if record is None else _history(record),
        known=known,
    )


def _sentence(platform: Platform, call_id: str, record: CallRecord | None, result: str) -> str:
    if result in {"SUCCESS", "FAILURE", "REVOKED"}:
        return f"{call_id} has ended: {result.lower()}."
    if platform.guards.cancelled(call_id):
        return f"{call_id} is cancelled and will not run."
    if record is None:
        return (
            f"Nothing is known of {call_id}: it waits in its queue, runs without guards, or never was."
            if result == "PENDING"
            else f"{call_id} is in the state {result.lower()}."
        )
    return f"{call_id} {_recorded(platform, record)}."


def _recorded(platform: Platform, record: CallRecord) -> str:
    if record.state == "running":
        return f"runs, under the fencing token {record.fields.get('fence', '0')}"
    if record.state == "done":
        return "is done"
    if "guard" in record.fields:
        return f"is parked by {_parked_by(platform, record)}"
    return "waits in its queue for its next attempt"


def _parked_by(platform: Platform, record: CallRecord) -> str:
    fields = record.fields
    name, next_look = fields.get("by", ""), moment(fields.get("until"))
    match fields["guard"]:
        case "breaker":
            found = next((entry.fields for entry in platform.guards.breakers(10_000) if entry.name == name), {})
            state, since = found.get("state", "closed").replace("_", " "), moment(found.get("since"))
            trial = moment(found.get("until")) or next_look
            return f"circuit breaker {name}, {state} since {since}, next trial {trial}, this call's turn {next_look}"
        case "rate":
            return f"rate limit {name}, its reserved time is {next_look}"
        case "concurrency":
            return f"concurrency limit {name}, next look {next_look}"
        case "pause":
            why = fields.get("why")
            return f"the pause of {name}{f' ({why})' if why else ''}, next look {next_look}"
    return f"the idempotency key {name}, which another run holds, next look {next_look}"


def _history(record: CallRecord) -> list[dict[str, Any]]:
    entries = [value.split(" ", 2) for name, value in record.fields.items() if name[0] == "h" and name[1:].isdigit()]
    entries.sort(key=lambda parts: float(parts[0]))
    now = time.time()
    return [
        {"at": moment(at), "ago": round(now - float(at) / 1000, 1), "guard": guard, "name": name}
        for at, guard, name in entries
    ]
