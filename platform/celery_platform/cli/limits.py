"""
`celery -A platform limits`: see the limits in use, and change one without a deployment.
"""

from __future__ import annotations

import click

from celery_platform.cli.breakers import DURATION
from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.guards.listings import limit_change, limits_of

__all__ = ["limits"]


@click.group()
def limits() -> None:
    """See the limits in use, and change one without a deployment."""


@limits.command("list")
@as_json
@click.pass_context
@guarded
def list_(ctx: click.Context, *, as_json: bool) -> None:
    """
    List the limits that hold something now, and every live change.
    """
    rows = limits_of(platform_of(ctx).guards)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("name", "key", "used", "change"),
        [
            (row["name"], row["key"] or "", "" if row["used"] is None else row["used"], row["change"] or "")
            for row in rows
        ],
    )


@limits.command("set")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1), help="Calls per `--per` (a RateLimit).")
@click.option("--per", type=DURATION, help="The time a limit counts over: 1, 60s, 1h.")
@click.option("--burst", type=click.IntRange(1), help="Calls at once after a pause (gcra).")
@click.option("--slots", type=click.IntRange(1), help="Calls at the same time (a ConcurrencyLimit).")
@click.option("--dry-run/--no-dry-run", "dry_run", default=None, help="Only count, refuse nothing.")
@click.pass_context
@guarded
def set_(
    ctx: click.Context,
    name: str,
    limit: int | None,
    per: float | None,
    burst: int | None,
    slots: int | None,
    *,
    dry_run: bool | None,
) -> None:
    """
    Let numbers win over the code for every limit called NAME, from the next call on, until `limits reset`.
    """
    change = limit_change(limit=limit, per=per, burst=burst, slots=slots, dry_run=dry_run)
    if not change:
        raise click.UsageError("Nothing to set. Name at least one of --limit, --per, --burst, --slots, --dry-run.")
    platform_of(ctx).guards.change_limit(name, change)
    click.echo(f"{name}: {change}")


@limits.command()
@click.argument("name")
@click.pass_context
@guarded
def reset(ctx: click.Context, name: str) -> None:
    """
    Let the code's numbers hold again for every limit called NAME.
    """
    platform_of(ctx).guards.change_limit(name, None)
    click.echo(f"{name} is as the code says.")
