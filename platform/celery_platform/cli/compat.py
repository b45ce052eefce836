"""
`celery -A platform registry --export` and `compat OLD NEW`: what the tasks take, and what a newer code breaks.
"""

from __future__ import annotations

import json
from typing import Any

import click

from celery_platform.cli.output import as_json, guarded, platform_of, print_json, print_table
from celery_platform.errors import ConfigurationError

__all__ = ["compat", "registry"]


@click.command()
@click.option("--export", "exporting", is_flag=True, help="Print the document that `compat` compares.")
@as_json
@click.pass_context
@guarded
def registry(ctx: click.Context, *, exporting: bool, as_json: bool) -> None:
    """
    List the tasks of this code: their versions, former names, queues and parameters.
    """
    from celery_platform.compatibility import schemas

    document = schemas(platform_of(ctx).app)
    if exporting or as_json:
        print_json(document)
        return
    print_table(
        ("task", "version", "aliases", "queue", "parameters"),
        [
            (name, one["version"], ", ".join(one["aliases"]), one["queue"] or "", _told(one))
            for name, one in document["tasks"].items()
        ],
    )


@click.command()
@click.argument("old", type=click.File("r"))
@click.argument("new", type=click.File("r"))
@as_json
@guarded
def compat(old: Any, new: Any, *, as_json: bool) -> None:
    """
    Compare two exports of `registry --export`; exits with 1 when calls of OLD would break on NEW.
    """
    from celery_platform.compatibility import breaks

    found = breaks(_read(old), _read(new))
    if as_json:
        print_json({"breaks": found})
    else:
        for problem in found:
            click.echo(problem)
        click.echo(f"{len(found)} breaking changes" if found else "compatible", err=True)
    if found:
        raise SystemExit(1)


def _read(file: Any) -> dict[str, Any]:
    from celery_platform.compatibility import check

    try:
        document = json.load(file)
    except ValueError as error:
        raise click.UsageError(f"{file.name} is not JSON ({error}).") from error
    try:
        return check(document, file.name)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error


def _told(schema: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {one['type']}" for name, one in schema["parameters"].items())
