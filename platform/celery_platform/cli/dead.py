"""
`celery -A platform dead`: look at dead letters, change them, send them again.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from celery_platform.cli.breakers import DURATION
from celery_platform.cli.dead_options import audited, moment, selecting, selection_of
from celery_platform.cli.dead_replay import replay
from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.errors import PlatformError

if TYPE_CHECKING:
    from celery_platform.dead_letters import DeadLetter

__all__ = ["dead"]


@click.group()
def dead() -> None:
    """Look at dead letters, change them, send them again."""


dead.add_command(replay)


@dead.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many, newest first.")
@click.option("--replayed", is_flag=True, help="Those that were sent again instead, the last first.")
@selecting
@as_json
@click.pass_context
@guarded
def list_(ctx: click.Context, limit: int, *, replayed: bool, as_json: bool, **words: Any) -> None:
    """
    List dead letters, the newest first; payloads are not shown.
    """
    where, letters = selection_of(words), platform_of(ctx).dead_letters
    found = letters.replayed(limit) if replayed else letters.list(where, limit=limit)
    if as_json:
        print_json([letter.listing() for letter in found])
        return
    columns = ("id", "task", "queue", "reason", "attempts", "buried", "group", "error")
    print_table(columns, [_row(letter) for letter in found])


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    return (
        letter.id,
        letter.task,
        letter.queue or "",
        letter.reason,
        letter.attempts,
        moment(letter.buried_at),
        letter.group,
        letter.error,
    )


@dead.command()
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@selecting
@as_json
@click.pass_context
@guarded
def groups(ctx: click.Context, limit: int, *, as_json: bool, **words: Any) -> None:
    """
    List the kinds of errors, each with its count, its first, its last and a sample.
    """
    rows = platform_of(ctx).dead_letters.groups(selection_of(words), limit=limit)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    columns = ("group", "task", "reason", "count", "first", "last", "sample", "error")
    print_table(
        columns,
        [
            (row.group, row.task, row.reason, row.count, moment(row.first), moment(row.last), row.sample, row.error)
            for row in rows
        ],
    )


@dead.command()
@click.argument("letter_id")
@as_json
@click.pass_context
@guarded
def show(ctx: click.Context, letter_id: str, *, as_json: bool) -> None:
    """
    Show one dead letter with its errors and tracebacks; private values stay hidden.
    """
    letter = platform_of(ctx).dead_letters.find(letter_id)
    if letter is None:
        raise PlatformError(f"There is no dead letter {letter_id!r}. List them with `celery -A platform dead list`.")
    if as_json:
        print_json(letter.listing())
        return
    for name, value in letter.listing().items():
        click.echo(f"{name}: {value}")


@dead.command()
@click.argument("letter_id")
@click.option("--edit", "patch", required=True, help='JSON patch of {"args": […], "kwargs": {…}}.')
@click.option("--dry-run", is_flag=True, help="Check the edit and change nothing.")
@audited
@as_json
@click.pass_context
@guarded
def edit(
    ctx: click.Context, letter_id: str, patch: str, actor: str, because: str, *, dry_run: bool, as_json: bool
) -> None:
    """
    Change the arguments of one dead letter; its task's annotations are held against them.
    """
    from celery_platform.cli.dead_options import patch_of
    from celery_platform.replay import edited
    from celery_platform.replay.patching import patched

    operations, platform = patch_of(patch), platform_of(ctx)
    platform.app.loader.import_default_modules()
    if dry_run:
        letter = platform.dead_letters.find(letter_id)
        if letter is None:
            raise PlatformError(f"There is no dead letter {letter_id!r}.")
        letter = patched(platform, letter, operations)
    else:
        letter = edited(platform, letter_id, operations, actor=actor, because=because)
    if as_json:
        print_json(letter.listing())
    else:
        click.echo(f"{letter.id}: {letter.argsrepr} {letter.kwargsrepr}{' (not kept)' if dry_run else ''}")


def _removing(name: str, does: str) -> None:
    @dead.command(name, help=does)
    @click.option("--dry-run", is_flag=True, help="Count them and change nothing.")
    @selecting
    @audited
    @as_json
    @click.pass_context
    @guarded
    def command(ctx: click.Context, actor: str, because: str, *, dry_run: bool, as_json: bool, **words: Any) -> None:
        where, letters = selection_of(words), platform_of(ctx).dead_letters
        if not where:
            raise click.UsageError(f"`dead {name}` expected a selection: ids, --task, --group, --reason, …")
        count = letters.count(where) if dry_run else getattr(letters, name)(where, actor=actor, because=because)
        _say(name, count, dry_run=dry_run, as_json=as_json)


_removing("discard", "Remove dead letters for good; those on hold stay.")
_removing("hold", "Keep dead letters from every removal, also by age and number.")
_removing("release", "End a hold: from now on the letters age like others.")


@dead.command()
@click.option("--older-than", type=DURATION, help="Only those buried longer ago than this: 30d, 12h, 90.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--dry-run", is_flag=True, help="Count them and change nothing.")
@audited
@as_json
@click.pass_context
@guarded
def purge(
    ctx: click.Context,
    older_than: float | None,
    actor: str,
    because: str,
    *,
    everything: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """
    Remove dead letters by age, or all; those on hold stay.
    """
    from celery_platform.clock import SYSTEM
    from celery_platform.dead_letters import Selection

    if (older_than is None) is not everything:
        raise click.UsageError("`dead purge` expected either --older-than DURATION or --all.")
    letters = platform_of(ctx).dead_letters
    if dry_run:
        count = letters.count(Selection(until=SYSTEM.now() - (older_than or -1)))
    else:
        count = letters.purge(older_than or 0.0, actor=actor, because=because)
    _say("purge", count, dry_run=dry_run, as_json=as_json)


@dead.command()
@selecting
@click.option("--output", type=click.Path(dir_okay=False, writable=True), help="A file; standard output otherwise.")
@click.pass_context
@guarded
def export(ctx: click.Context, output: str | None, **words: Any) -> None:
    """
    Write dead letters as lines of JSON, WITH their payloads: private values are in them.
    """
    lines = platform_of(ctx).dead_letters.export(selection_of(words))
    with click.open_file(output or "-", "w") as file:
        for line in lines:
            file.write(f"{line}\n")


@dead.command("import")
@click.argument("file", type=click.File("r"))
@click.option("--dry-run", is_flag=True, help="Check the lines and keep nothing.")
@audited
@as_json
@click.pass_context
@guarded
def import_(ctx: click.Context, file: Any, actor: str, because: str, *, dry_run: bool, as_json: bool) -> None:
    """
    Read lines of `dead export` back; a line that is none stops it before anything is kept.
    """
    from celery_platform.dead_letters.exchange import read

    letters = platform_of(ctx).dead_letters
    count = len(read(file)) if dry_run else letters.read_in(file, actor=actor, because=because)
    _say("import", count, dry_run=dry_run, as_json=as_json)


@dead.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="How many, newest first.")
@as_json
@click.pass_context
@guarded
def audit(ctx: click.Context, limit: int, *, as_json: bool) -> None:
    """
    List who changed dead letters, what, and why.
    """
    lines = platform_of(ctx).dead_letters.audit(limit)
    if as_json:
        print_json(lines)
        return
    columns = ("at", "actor", "action", "count", "what", "because")
    print_table(columns, [(moment(line["at"]), *(line[name] for name in columns[1:])) for line in lines])


def _say(action: str, count: int, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"action": action, "count": count, "dry_run": dry_run})
    else:
        click.echo(f"{action}: {count}{' (nothing was changed)' if dry_run else ''}")
