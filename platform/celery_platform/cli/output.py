"""
Print answers: one JSON document for programs, a table for people.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from celery_platform.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_platform.celery_app import Platform

__all__ = ["as_json", "guarded", "platform_of", "print_json", "print_table"]

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


def platform_of(ctx: click.Context) -> Platform:
    """
    Return the platform that `-A platform` names; without `-A` the one of the environment.
    """
    from celery_platform.celery_app import current_platform

    app = getattr(ctx.obj, "app", None)
    found: Platform = getattr(app, "platform", None) or current_platform()
    return found


def print_json(document: Any) -> None:
    """
    Print *document* as one JSON document.
    """
    click.echo(json.dumps(document, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """
    Print *rows* under *columns*: a drawn table on a terminal, tab-separated lines elsewhere.
    """
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(str(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """
    Turn a `PlatformError` of *command* into its message on stderr and exit code 1.
    """
    from functools import wraps

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except PlatformError as error:
            click.echo(str(error), err=True)
            raise SystemExit(1) from error

    return run
