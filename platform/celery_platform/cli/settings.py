"""
`celery -A platform settings`: every setting, its value without secrets, and where it comes from.
"""

from __future__ import annotations

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table

__all__ = ["settings"]


@click.command()
@as_json
@click.pass_context
@guarded
def settings(ctx: click.Context, *, as_json: bool) -> None:
    """
    List every setting of the platform with its source; secrets are hidden.
    """
    values = platform_of(ctx).settings
    fields = type(values).model_fields
    rows = [
        (f"PLATFORM_{name.upper()}", values.shown(name), values.source(name), field.description or "")
        for name, field in fields.items()
    ]
    if as_json:
        keys = ("name", "value", "source", "description")
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        print_table(("setting", "value", "source", "meaning"), rows)
