"""
`celery -A platform explain ID`: say in one sentence why a call is not running.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from celery_platform.cli.breakers import moment
from celery_platform.cli.output import as_json, guarded, platform_of, print_json

if TYPE_CHECKING:
    from celery_platform.celery_app import Platform
    from celery_platform.stores.guard_state import CallRecord

__all__ = ["explain"]


@click.command()
@click.argument("call_id")
@as_json
@click.pass_context
@guarded
def explain(ctx: click.Context, call_id: str, *, as_json: bool) -> None:
    """
    Say why a call is not running, and how often it has waited for what.

    Exits with 1 when nothing is known of the call.
    """
    platform = platform_of(ctx)
    record = platform.guards.call(call_id)
    result = platform.app.AsyncResult(call_id)
    known = record is not None or result.state != "PENDING" or platform.guards.cancelled(call_id)
    told = _sentence(platform, call_id, record, result.state)
    history = [] if record is None else _history(record)
    if as_json:
        print_json(
            {
                "id": call_id,
                "sentence": told,
                "state": record.state if record else result.state.lower(),
                "deferrals": int(record.fields.get("n", 0)) if record else 0,
                "history": history,
            }
        )
    else:
        click.echo(told)
        for entry in history:
            click.echo(f"  {entry['at']} waited for {entry['guard']} {entry['name']}")
    if not known:
        raise SystemExit(1)


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
