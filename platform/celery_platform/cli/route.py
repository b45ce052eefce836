"""
`celery -A platform route explain TASK`: which rule decides where a call goes.
"""

from __future__ import annotations

import json
from typing import Any

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.errors import PlatformError, did_you_mean
from celery_platform.routing import priority_number

__all__ = ["route"]


@click.group()
def route() -> None:
    """Explain where calls go."""


@route.command()
@click.argument("task")
@click.argument("args", required=False)
@click.option("--queue", help="A queue given with the call.")
@as_json
@click.pass_context
@guarded
def explain(ctx: click.Context, task: str, args: str | None, queue: str | None, *, as_json: bool) -> None:
    """
    Show the queue, the priority and the winning rule of a call to TASK; ARGS is a JSON list to check as well.
    """
    platform = platform_of(ctx)
    platform.app.loader.import_default_modules()
    known = platform.app.tasks.get(task)
    if known is None:
        names = sorted(name for name in platform.app.tasks if not name.startswith("celery."))
        raise PlatformError(f"{task!r} is no task here ({', '.join(names)}).{did_you_mean(task, names)}")
    if args is not None:
        _check(known, args)
    policy = getattr(known, "policy", None)
    chosen = platform.router.route(
        task,
        call_queue=queue,
        task_queue=policy.queue if policy else None,
        task_priority=policy.priority if policy else None,
    )
    broker = platform.settings.broker_kind
    number = None if chosen.priority is None else priority_number(chosen.priority, broker=broker)
    answer = {
        "task": task,
        "queue": chosen.queue,
        "priority": chosen.priority,
        "number": number,
        "rule": chosen.rule,
        "broker": broker,
    }
    if as_json:
        print_json(answer)
    else:
        print_table(("", ""), [(key, "" if value is None else value) for key, value in answer.items()])


def _check(task: Any, text: str) -> None:
    try:
        args = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"ARGS expected a JSON list, got {text!r} ({error}).") from error
    if not isinstance(args, list):
        raise click.UsageError(f"ARGS expected a JSON list, got {type(args).__name__}.")
    if hasattr(task, "contract"):
        task.contract.dump(args, {})
