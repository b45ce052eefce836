"""
`celery -A platform breakers`: see the circuit breakers, and open or close one by hand.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table

if TYPE_CHECKING:
    from celery_platform.stores.guard_state import Entry

__all__ = ["DURATION", "breakers", "moment"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs only
    """Seconds, or a number with s, m, h or d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """
        Return *value* in seconds.
        """
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if match is None or float(match[1]) <= 0:
            self.fail(f"expected a duration like 90, 30s, 10m, 2h or 1d, got {value!r}.", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


DURATION = Duration()


def moment(milliseconds: str | float | None) -> str | None:
    """
    Return a Unix time in milliseconds as ISO 8601 (UTC), or nothing for nothing.
    """
    if not milliseconds or float(milliseconds) <= 0:
        return None
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC).isoformat(timespec="seconds")


@click.group()
def breakers() -> None:
    """See the circuit breakers, and open or close one by hand."""


@breakers.command("list")
@as_json
@click.pass_context
@guarded
def list_(ctx: click.Context, *, as_json: bool) -> None:
    """
    List the breakers that calls have asked lately.
    """
    rows = [_shown(entry) for entry in platform_of(ctx).guards.breakers(10_000)]
    if as_json:
        print_json(rows)
        return
    columns = ("name", "key", "state", "since", "until", "failures", "calls", "parked", "reason")
    print_table(columns, [["" if row[name] is None else row[name] for name in columns] for row in rows])


def _forcing(name: str, state: str, text: str) -> None:
    @breakers.command(name, help=text)
    @click.argument("breaker")
    @click.option("--for", "seconds", type=DURATION, help="How long: 90, 30s, 10m, 2h, 1d; 30 days by default.")
    @click.option("--reason", default="", help="Why, for the next person who looks.")
    @as_json
    @click.pass_context
    @guarded
    def force(ctx: click.Context, breaker: str, seconds: float | None, reason: str, *, as_json: bool) -> None:
        before = platform_of(ctx).guards.force(breaker, state, seconds=seconds, reason=reason)
        if as_json:
            print_json({"name": breaker, "was": before, "state": state})
        else:
            click.echo(f"{breaker}: {before} -> {state}")

    del force


_forcing("open", "forced_open", "Let no call of BREAKER (name, or name|key) through.")
_forcing("close", "closed", "Close BREAKER and release its backlog step by step; its window starts empty.")
_forcing("disable", "disabled", "Let every call of BREAKER through and count nothing.")
_forcing("metrics-only", "metrics_only", "Let every call of BREAKER through, and count.")


def _shown(entry: Entry) -> dict[str, Any]:
    fields = entry.fields
    name, _, key = entry.name.partition("|")
    state = fields.get("state", "closed")
    until = moment(fields.get("until"))
    return {
        "name": name,
        "key": key or None,
        "state": "half_open" if state == "open" and float(fields.get("until", 0)) < time.time() * 1000 else state,
        "since": moment(fields.get("since")),
        "until": until if state != "closed" else None,
        "failures": int(fields.get("failures", 0)) if fields.get("w") else 0,
        "calls": int(fields.get("calls", 0)) if fields.get("w") else 0,
        "parked": int(fields.get("pn", 0)),
        "reason": fields.get("reason", "") if state not in {"closed", "open", "half_open"} else "",
    }
