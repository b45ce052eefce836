"""
`celery -A platform dead`: look at dead letters.
"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.errors import PlatformError

__all__ = ["dead"]


@click.group()
def dead() -> None:
    """Look at dead letters."""


@dead.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@click.option("--task", help="Only letters of this task.")
@click.option("--queue", help="Only letters of this queue.")
@click.option("--reason", help="Only letters with this reason code.")
@as_json
@click.pass_context
@guarded
def list_(
    ctx: click.Context, limit: int, task: str | None, queue: str | None, reason: str | None, *, as_json: bool
) -> None:
    """
    List dead letters, the newest first; payloads are not shown.
    """
    wanted = {"task": task, "queue": queue, "reason": reason}
    letters = platform_of(ctx).dead_letters.newest(
        limit,
        where=lambda letter: all(value is None or getattr(letter, name) == value for name, value in wanted.items()),
    )
    if as_json:
        print_json([letter.listing() for letter in letters])
        return
    print_table(
        ("id", "task", "queue", "reason", "attempts", "buried", "error"),
        [
            (
                letter.id,
                letter.task,
                letter.queue or "",
                letter.reason,
                letter.attempts,
                datetime.fromtimestamp(letter.buried_at, UTC).isoformat(timespec="seconds"),
                letter.error,
            )
            for letter in letters
        ],
    )


@dead.command()
@click.argument("letter_id")
@as_json
@click.pass_context
@guarded
def show(ctx: click.Context, letter_id: str, *, as_json: bool) -> None:
    """
    Show one dead letter with its traceback; private values stay hidden.
    """
    letter = platform_of(ctx).dead_letters.find(letter_id)
    if letter is None:
        raise PlatformError(f"There is no dead letter {letter_id!r}. List them with `celery -A platform dead list`.")
    if as_json:
        print_json(letter.listing())
        return
    for name, value in letter.listing().items():
        click.echo(f"{name}: {value}")
