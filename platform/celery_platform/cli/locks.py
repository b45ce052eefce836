"""
`celery -A platform locks`: see who holds which idempotency key, and free one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_platform.celery_app import Platform
    from celery_platform.stores.guard_state import Entry

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
    _print([_shown(entry) for entry in platform_of(ctx).guards.locks(limit)], as_json=as_json)


@locks.command()
@click.argument("key")
@as_json
@click.pass_context
@guarded
def inspect(ctx: click.Context, key: str, *, as_json: bool) -> None:
    """
    Show one KEY, as the list names it or without its task.
    """
    found = _shown(_find(platform_of(ctx), key))
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
    entry = _find(platform, key)
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
    orphans = [entry for entry in platform.guards.locks(100_000) if _is_orphan(entry)]
    if repair:
        for entry in orphans:
            task, _, name = entry.name.partition("|")
            platform.guards.release(task, name, owner=_holder(entry))
    _print([_shown(entry) for entry in orphans], as_json=as_json)
    if orphans and not repair:
        raise SystemExit(1)


def _find(platform: Platform, key: str) -> Entry:
    found = [entry for entry in platform.guards.locks(100_000) if key in {entry.name, entry.name.partition("|")[2]}]
    if len(found) != 1:
        names = ", ".join(entry.name for entry in found[:5])
        several = f"{key!r} is held for several tasks ({names}). Name one of them with its task."
        raise PlatformError(
            several if found else f"{key!r} is not held. `celery -A platform locks list` shows what is."
        )
    return found[0]


def _is_orphan(entry: Entry) -> bool:
    # A waiting owner is no orphan: its call is in a queue, or lapses with the key.
    lease = float(entry.fields.get("lease", 0))
    return entry.fields["state"] == "running" and lease < time.time() * 1000


def _holder(entry: Entry) -> str:
    return entry.fields.get("owner") or entry.fields.get("running", "")


def _shown(entry: Entry) -> dict[str, Any]:
    fields = entry.fields
    since = float(fields["since"]) / 1000 if "since" in fields else None
    task, _, key = entry.name.partition("|")
    return {
        "task": task,
        "key": key,
        "holder": _holder(entry),
        "state": "orphaned" if _is_orphan(entry) else fields["state"],
        "scope": fields.get("scope", ""),
        "fence": int(fields["fence"]) if "fence" in fields else None,
        "age": None if since is None else round(max(time.time() - since, 0.0), 1),
        "expires_in": entry.ttl,
    }


def _print(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    columns = ("task", "key", "holder", "state", "scope", "fence", "age", "expires_in")
    print_table(columns, [["" if row[name] is None else row[name] for name in columns] for row in rows])
