"""
`celery -A platform cancel ID`: stop a call wherever it is.
"""

from __future__ import annotations

import click

from celery_platform.cli.breakers import DURATION
from celery_platform.cli.output import as_json, guarded, platform_of, print_json

__all__ = ["cancel"]


@click.command()
@click.argument("call_id")
@click.option("--kill-after", type=DURATION, help="Stop a running body by force after this time: 10, 30s, 2m.")
@as_json
@click.pass_context
@guarded
def cancel(ctx: click.Context, call_id: str, kill_after: float | None, *, as_json: bool) -> None:
    """
    Cancel one call and say what came of it.

    cancelled, already_done, stopping, killed, or not_found; the last and already_done exit with 1.
    """
    from celery_platform.cancellation import cancel as stop

    answer = stop(platform_of(ctx), call_id, kill_after=kill_after)
    if as_json:
        print_json({"id": call_id, "answer": answer})
    else:
        click.echo(answer)
    if answer in {"already_done", "not_found"}:
        raise SystemExit(1)
