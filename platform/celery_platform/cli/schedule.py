"""
`celery -A platform schedule`: look at the schedules and steer them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.errors import PlatformError

if TYPE_CHECKING:
    from celery_platform.beat.entries import Entry
    from celery_platform.celery_app import Platform

__all__ = ["schedule"]


class Moment(click.ParamType):  # type: ignore[type-arg] # click has no such argument at run time
    """An ISO 8601 time; one without a zone is refused, for nobody can tell what it means."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """
        Return *value* in UTC.
        """
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"expected an ISO 8601 time such as 2026-03-01T06:00:00+01:00, got {value!r}", param, ctx)
        if moment.utcoffset() is None:
            self.fail(f"{value!r} has no time zone. Write {value}Z for UTC, or an offset such as +01:00.", param, ctx)
        return moment.astimezone(UTC)


_NAME = click.argument("name")


def _opened(ctx: click.Context) -> Platform:
    from celery_platform.beat.site.configuration import prepare

    platform = platform_of(ctx)
    prepare(platform.settings)
    return platform


@click.group()
def schedule() -> None:
    """Look at the schedules and steer them."""


@schedule.command("list")
@as_json
@click.pass_context
@guarded
def list_(ctx: click.Context, *, as_json: bool) -> None:
    """
    List every entry with its next and last time; a drift is what an operator changed against the code.
    """
    from celery_platform.beat.code import schedule_of
    from celery_platform.beat.history import listing

    entries = listing(schedule_of(_opened(ctx).app))
    if as_json:
        print_json([entry.to_json() for entry in entries])
        return
    columns = ("name", "task", "schedule", "next", "last", "overlap", "state", "drift")
    print_table(
        columns,
        [
            (
                entry.name,
                entry.task,
                entry.schedule,
                entry.next or "",
                f"{entry.last} {entry.last_state}" if entry.last else "",
                entry.overlap,
                _state(entry),
                ", ".join(entry.drift),
            )
            for entry in entries
        ],
    )


def _state(entry: Any) -> str:
    if entry.error:
        return f"broken: {entry.error}"
    if not entry.enabled:
        return "disabled"
    return f"paused: {entry.paused_reason}" if entry.paused else "active"


@schedule.command("next")
@click.argument("name", required=False)
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many times.")
@click.option("--after", type=Moment(), help="Begin after this time instead of now.")
@as_json
@click.pass_context
@guarded
def next_(ctx: click.Context, name: str | None, count: int, after: datetime | None, *, as_json: bool) -> None:
    """
    Show when an entry, or all of them together, are due next; times are UTC and in the entry's zone.
    """
    from celery_platform.beat.code import schedule_of
    from celery_platform.beat.history import coming, entry_named, listing

    code = {entry.name: entry for entry in schedule_of(_opened(ctx).app)}
    known = {entry.name for entry in listing()}
    active = [entry.name for entry in listing(list(code.values())) if entry.enabled and not entry.error]
    names = [name] if name else active
    entries = [code[each] if each in code and each not in known else entry_named(each) for each in names]
    times = sorted(
        ((moment, entry) for entry in entries for moment in coming(entry, count, after)),
        key=lambda pair: (pair[0], pair[1].name),
    )[:count]
    lines = [
        (entry.name, moment.isoformat(), moment.astimezone(entry.rules.calendar.zone).isoformat())
        for moment, entry in times
    ]
    if as_json:
        print_json([dict(zip(("name", "at", "local"), line, strict=True)) for line in lines])
        return
    print_table(("name", "at", "local"), lines)


@schedule.command()
@click.argument("name", required=False)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@click.option("--state", help="Only firings in this state.")
@as_json
@click.pass_context
@guarded
def history(ctx: click.Context, name: str | None, limit: int, state: str | None, *, as_json: bool) -> None:
    """
    Show what was fired: nominal and actual time, lag in seconds, outcome and call.
    """
    from celery_platform.beat.history import firings

    _opened(ctx)
    found = firings(name, limit, state)
    if as_json:
        print_json(found)
        return
    columns = ("entry", "nominal", "actual", "lag", "state", "kind", "call_id", "note")
    rows = [[line[column] if line[column] is not None else "" for column in columns] for line in found]
    print_table(columns, rows)


@schedule.command()
@_NAME
@click.option("--reason", required=True, help="Why; shown wherever the entry is.")
@click.option("--until", type=Moment(), help="When it goes on by itself.")
@click.pass_context
@guarded
def pause(ctx: click.Context, name: str, reason: str, until: datetime | None) -> None:
    """
    Pause an entry; its times pass unused until it is resumed.
    """
    from celery_platform.beat.history import pause as pause_entry

    _opened(ctx)
    pause_entry(name, reason, until)
    click.echo(f"{name} is paused{f' until {until.isoformat()}' if until else ''}.")


@schedule.command()
@_NAME
@click.pass_context
@guarded
def resume(ctx: click.Context, name: str) -> None:
    """
    Let a paused entry go on; exit 1 when it was not paused.
    """
    from celery_platform.beat.history import resume as resume_entry

    _opened(ctx)
    was = resume_entry(name)
    click.echo(f"{name} goes on." if was else f"{name} was not paused.")
    ctx.exit(0 if was else 1)


@schedule.command()
@_NAME
@as_json
@click.pass_context
@guarded
def run(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """
    Run an entry now, once; the running beat sends it within a second.
    """
    from celery_platform.beat.history import run_now

    _opened(ctx)
    asked = run_now(name)
    if as_json:
        print_json(asked)
        return
    click.echo(f"{name} was asked for: call {asked['call_id']}.")


@schedule.command()
@_NAME
@click.option("--from", "begin", required=True, type=Moment(), help="First time, with its zone.")
@click.option("--to", "end", required=True, type=Moment(), help="Last time, with its zone.")
@click.option("--concurrency", default=1, show_default=True, type=click.IntRange(1, 1000), help="Runs at a time.")
@as_json
@click.pass_context
@guarded
def backfill(ctx: click.Context, name: str, begin: datetime, end: datetime, concurrency: int, *, as_json: bool) -> None:
    """
    Run an entry for every nominal time of a range that was not fired yet, oldest first.
    """
    from celery_platform.beat.history import backfill as ask_for

    _opened(ctx)
    asked = ask_for(name, begin, end, width=concurrency)
    if as_json:
        print_json({"entry": name, "nominal": [moment.isoformat() for moment in asked]})
        return
    click.echo(f"{name}: {len(asked)} runs were asked for, {concurrency} at a time.")


@schedule.command()
@as_json
@click.pass_context
@guarded
def lint(ctx: click.Context, *, as_json: bool) -> None:
    """
    Check the schedule in code; exit 1 when something in it cannot work.
    """
    from celery_platform.beat.code import schedule_of
    from celery_platform.beat.lint import problems

    app = platform_of(ctx).app
    entries: list[Entry] = []
    try:
        entries = schedule_of(app)
        found = problems(entries, app)
    except PlatformError as error:
        # An entry that cannot be made stops the import at once: there is nothing more to be found before it is mended.
        found = [str(error)]
    if as_json:
        print_json({"entries": len(entries), "problems": found})
    else:
        for line in found or [f"{len(entries)} entries, nothing wrong."]:
            click.echo(line)
    ctx.exit(1 if found else 0)


@schedule.command()
@click.pass_context
@guarded
def migrate(ctx: click.Context) -> None:
    """
    Bring the tables up to date and exit; beat does so itself when it starts.
    """
    _opened(ctx)
    click.echo("The tables of the schedules are up to date.")


@schedule.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8788, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--user", help="Let this user in with the password in PLATFORM_ADMIN_PASSWORD.")
@click.pass_context
@guarded
def admin(ctx: click.Context, host: str, port: int, user: str | None) -> None:
    """
    Serve the admin pages until interrupted.
    """
    from celery_platform.beat.site.serve import make_user, serve

    password = _opened(ctx).settings.admin_password
    if user:
        make_user(user, password.get_secret_value() if password else "")
    serve(host, port, lambda taken: click.echo(f"The admin of the schedules: http://{host}:{taken}/"))
