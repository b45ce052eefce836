"""
`celery -A platform breakers`: see the circuit breakers, and open or close one by hand.
"""

from __future__ import annotations

from typing import Any

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.clock import duration_of
from celery_platform.guards.listings import breakers_of

__all__ = ["DURATION", "breakers"]


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs only
    """Seconds, or a number with s, m, h or d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """
        Return *value* in seconds.
        """
        if isinstance(value, float):
            return value
        try:
            return duration_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()


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
    rows = breakers_of(platform_of(ctx).guards)
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
