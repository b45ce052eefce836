"""
`celery -A platform locks`: see who holds which idempotency key, and free one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.guards.listings import holder_of, is_orphan, lock_named, lock_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["locks"]


@click.group()
def locks() -> None:
    """See who holds which idempotency key, and free one."""


@locks.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="How many at most.")
@as_json
@click.pass_context
@guarded
def list_(ctx: click.Context, limit: int, *, as_json: bool) -> None:
    """
    List the keys that are held now.
    """
    _print([lock_of(entry) for entry in platform_of(ctx).guards.locks(limit)], as_json=as_json)


@locks.command()
@click.argument("key")
@as_json
@click.pass_context
@guarded
def inspect(ctx: click.Context, key: str, *, as_json: bool) -> None:
    """
    Show one KEY, as the list names it or without its task.
    """
    found = lock_of(lock_named(platform_of(ctx).guards, key))
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name}: {value}")


@locks.command()
@click.argument("key")
@as_json
@click.pass_context
@guarded
def release(ctx: click.Context, key: str, *, as_json: bool) -> None:
    """
    Free KEY; a holder that still runs is fenced, and its result will not count.
    """
    platform = platform_of(ctx)
    entry = lock_named(platform.guards, key)
    task, _, name = entry.name.partition("|")
    released = platform.guards.release(task, name)
    if as_json:
        print_json({"key": entry.name, "released": released})
    else:
        click.echo(f"{entry.name} is free." if released else f"{entry.name} was not held any more.")
    if not released:
        raise SystemExit(1)


@locks.command()
@click.option("--repair", is_flag=True, help="Free what is found.")
@as_json
@click.pass_context
@guarded
def doctor(ctx: click.Context, *, repair: bool, as_json: bool) -> None:
    """
    Find keys whose holder died while it ran; exit with 1 when there are any left.
    """
    platform = platform_of(ctx)
    orphans = [entry for entry in platform.guards.locks(100_000) if is_orphan(entry)]
    if repair:
        for entry in orphans:
            task, _, name = entry.name.partition("|")
            platform.guards.release(task, name, owner=holder_of(entry))
    _print([lock_of(entry) for entry in orphans], as_json=as_json)
    if orphans and not repair:
        raise SystemExit(1)


def _print(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    columns = ("task", "key", "holder", "state", "scope", "fence", "age", "expires_in")
    print_table(columns, [["" if row[name] is None else row[name] for name in columns] for row in rows])
