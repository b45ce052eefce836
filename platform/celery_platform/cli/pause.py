"""
`celery -A platform pause` and `resume`: hold back a queue, a task or a key in the whole fleet.
"""

from __future__ import annotations

import time
from typing import Any

import click

from celery_platform.cli.breakers import DURATION
from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.clock import moment

__all__ = ["pause", "resume"]


def _subject(kind: str | None, name: str | None) -> str | None:
    return None if kind is None or name is None else f"{kind}:{name}"


@click.command()
@click.argument("kind", type=click.Choice(["queue", "task", "key"]), required=False)
@click.argument("name", required=False)
@click.option("--for", "seconds", type=DURATION, help="How long: 90, 30s, 10m, 2h, 1d; until it is resumed by default.")
@click.option("--reason", default="", help="Why, for the next person who looks.")
@as_json
@click.pass_context
@guarded
def pause(
    ctx: click.Context, kind: str | None, name: str | None, seconds: float | None, reason: str, *, as_json: bool
) -> None:
    """
    Hold back the calls of a queue, a task or a key within two seconds; without words, list what is paused.

    What runs goes on; what waits keeps its attempts. New workers obey too.
    """
    state = platform_of(ctx).guards
    subject = _subject(kind, name)
    if subject is not None:
        state.pause(subject, reason=reason, until=0.0 if seconds is None else time.time() + seconds)
    elif kind is not None:
        raise click.UsageError(f"Which {kind}? Write: pause {kind} NAME")
    paused = {name: body for name, body in state.pauses().items() if subject in {None, name}}
    rows: list[dict[str, Any]] = [
        {"subject": name, "reason": body["reason"], "until": moment(body["until"])} for name, body in paused.items()
    ]
    if as_json:
        print_json(rows)
        return
    print_table(("subject", "reason", "until"), [(row["subject"], row["reason"], row["until"] or "") for row in rows])


@click.command()
@click.argument("kind", type=click.Choice(["queue", "task", "key"]))
@click.argument("name")
@as_json
@click.pass_context
@guarded
def resume(ctx: click.Context, kind: str, name: str, *, as_json: bool) -> None:
    """
    End the pause of a queue, a task or a key; exit with 1 when it was not paused.
    """
    was = platform_of(ctx).guards.resume(f"{kind}:{name}")
    if as_json:
        print_json({"subject": f"{kind}:{name}", "resumed": was})
    else:
        click.echo(f"{kind} {name} runs again." if was else f"{kind} {name} was not paused.")
    if not was:
        raise SystemExit(1)
