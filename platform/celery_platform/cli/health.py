"""
`celery -A platform health`: ask a process of this machine how it is, without the broker.
"""

from __future__ import annotations

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json
from celery_platform.instrumentation.asking import ask
from celery_platform.instrumentation.vitals import PROBES

__all__ = ["health"]


@click.command()
@click.argument("probe", type=click.Choice(list(PROBES)), default="ready")
@click.option("--port", type=click.IntRange(1, 65535), help="The port to ask instead of PLATFORM_HEALTH_PORT.")
@as_json
@click.pass_context
@guarded
def health(ctx: click.Context, probe: str, port: int | None, *, as_json: bool) -> None:
    """
    Ask the worker, beat or exporter of this machine whether it is live, ready (the default) or has started.

    Exits with 1 and the reason when it is not. Neither broker nor store is asked: the process answers from memory.
    """
    settings = platform_of(ctx).settings
    asked = port or settings.health_port or settings.metrics_port
    if asked is None:
        raise click.UsageError("There is no port to ask. Set PLATFORM_HEALTH_PORT for the process and here, or --port.")
    told = ask(probe, asked)
    if as_json:
        print_json(told)
    else:
        click.echo(f"{told.get('role', 'process')}: {'ok' if told['ok'] else told['why']}")
    if not told["ok"]:
        raise SystemExit(1)
