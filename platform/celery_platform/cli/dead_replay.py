"""
`celery -A platform dead replay`: send dead letters again.
"""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from celery_platform.cli.dead_options import audited, patch_of, selecting, selection_of
from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.errors import SelectionError, UnknownQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.replay import Replay, ReplayPlan, ReplayReport

__all__ = ["replay"]


class _Share(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs only
    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """
        Return 0.2 for ``20%`` and for ``0.2``.
        """
        text = str(value)
        try:
            return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{value!r} is no share: expected 20% or 0.2.", param, ctx)


class _Rate(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs only
    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """
        Return calls a second: ``50``, ``50/s``, ``600/m``, ``1000/h``.
        """
        found = re.fullmatch(r"([0-9.]+)(?:/([smh]))?", str(value))
        if found is None or float(found[1]) <= 0:
            self.fail(f"{value!r} is no rate: expected 50/s, 600/m or 1000/h.", param, ctx)
        return float(found[1]) / {"s": 1, "m": 60, "h": 3600, None: 1}[found[2]]


@click.command()
@selecting
@click.option("--to", help="Another queue than each letter came from.")
@click.option("--rate", type=_Rate(), help="At most so many a second: 50/s, 600/m.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--canary", type=click.IntRange(0), default=0, help="Send so many first and wait for them.")
@click.option("--stop-if-fail", type=_Share(), default="20%", help="Stop when this share of the canary fails.")
@click.option("--canary-wait", type=float, default=60.0, show_default=True, help="Seconds to wait for the canary.")
@click.option("--edit", "patch", help='JSON patch of {"args": […], "kwargs": {…}} for each.')
@click.option("--poison", is_flag=True, help="Also calls that killed their processes.")
@click.option("--name", help="A replay that is done once, whatever dies later.")
@click.option("--dry-run", is_flag=True, help="List what would be sent and send nothing.")
@audited
@as_json
@click.pass_context
@guarded
def replay(ctx: click.Context, *, dry_run: bool, as_json: bool, **words: Any) -> None:
    """
    Send dead letters again, each once, with their attempts unspent.

    Without ids or options: all but poison pills. The same words go on with a replay that was interrupted. Exits with 1
    when the canary stopped it, or has not ended in time.
    """
    from celery_platform.replay import Replay

    plan = _plan(words)
    try:
        run = Replay(platform_of(ctx), plan)
    except UnknownQueue as error:
        raise click.UsageError(str(error)) from error
    if dry_run:
        _preview(run, as_json=as_json)
        return
    with _bar(show=sys.stderr.isatty() and not as_json) as progress:
        report = run.run(progress)
    _tell(report, as_json=as_json)
    if report.state != "done":
        raise SystemExit(1)


def _plan(words: dict[str, Any]) -> ReplayPlan:
    from celery_platform.replay import ReplayPlan

    patch = words.pop("patch")
    given = ("to", "rate", "limit", "canary", "stop_if_fail", "canary_wait", "poison", "name", "actor", "because")
    try:
        return ReplayPlan(
            where=selection_of(words),
            edit=patch_of(patch) if patch else (),
            **{name: words[name] for name in given},
        )
    except SelectionError as error:
        raise click.UsageError(str(error)) from error


class _bar:  # noqa: N801 - read as a noun
    def __init__(self, *, show: bool) -> None:
        self._bar: Any = None
        self._show = show

    def __enter__(self) -> Callable[[int, int], object]:
        return self._step if self._show else lambda _, __: None

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def _step(self, sent: int, total: int) -> None:
        if self._bar is None:
            self._bar = click.progressbar(length=total, label="Replaying", file=sys.stderr)
        self._bar.update(sent - self._bar.pos)


def _preview(run: Replay, *, as_json: bool) -> None:
    letters = run.preview()
    passed = run.passed_over
    if as_json:
        print_json({"letters": [letter.listing() for letter in letters], "passed_over": [list(one) for one in passed]})
        return
    print_table(
        ("id", "task", "queue", "reason", "error"),
        [(one.id, one.task, one.queue or "", one.reason, one.error) for one in letters],
    )
    for letter_id, why in passed:
        click.echo(f"{letter_id}: {why}", err=True)
    click.echo(f"{len(letters)} would be sent; nothing was.", err=True)


def _tell(report: ReplayReport, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
        return
    for letter_id, why in report.passed_over:
        click.echo(f"{letter_id}: {why}", err=True)
    click.echo(f"{report.name}: {report.state}, {report.sent} sent now, {report.total} in all")
    if report.state == "stopped":
        click.echo(f"{report.canary_failed} of the canary failed: nothing else was sent.", err=True)
    if report.state == "waiting":
        click.echo("The canary has not ended yet: run the same command again.", err=True)
