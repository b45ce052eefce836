"""
`celery -A platform explain ID`: say in one sentence why a call is not running.
"""

from __future__ import annotations

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json

__all__ = ["explain"]


@click.command()
@click.argument("call_id")
@as_json
@click.pass_context
@guarded
def explain(ctx: click.Context, call_id: str, *, as_json: bool) -> None:
    """
    Say why a call is not running, and how often it has waited for what.

    Exits with 1 when nothing is known of the call.
    """
    from celery_platform.explanation import explain as explained

    answer = explained(platform_of(ctx), call_id)
    if as_json:
        print_json(answer.to_json())
    else:
        click.echo(answer.sentence)
        for entry in answer.history:
            click.echo(f"  {entry['at']} waited for {entry['guard']} {entry['name']}")
    if not answer.known:
        raise SystemExit(1)
