"""
`celery -A platform embedded`: see, start and stop the embedded Redis of a folder.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from celery_platform.errors import PlatformError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["embedded"]


@click.group()
def embedded() -> None:
    """See, start and stop the Redis that this folder has when no broker is configured."""


@embedded.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document, nothing else.")
def status(as_json: bool) -> None:
    """Tell what runs; exits 1 when nothing does."""
    from celery_platform import embedded as server

    folder = _folder()
    place = server.Place.of(folder)
    found = server.status(folder)
    if as_json:
        facts = {"running": found is not None, "folder": str(place.folder), "url": server.broker_url(folder)}
        click.echo(json.dumps({**facts, **(asdict(found) if found else {})}))
    elif found is None:
        click.echo(f"No embedded Redis runs for {place.folder}.")
    else:
        users = f"{found.users} user{'' if found.users == 1 else 's'}{', kept until stopped' if found.kept else ''}"
        click.echo(f"{found.version or 'server'} {found.state} for {place.folder} (pid {found.pid}, {users})")
        click.echo(f"url   {server.broker_url(folder)}\ndata  {place.home}")
    sys.exit(0 if found else 1)


@embedded.command()
def start() -> None:
    """Start it and let it run without users until `stop`."""
    from celery_platform import embedded as server

    try:
        server.start(_folder())
    except PlatformError as error:
        click.echo(str(error), err=True)
        sys.exit(1)


@embedded.command()
def stop() -> None:
    """Stop it, whoever uses it; its data stay. Exits 1 when nothing runs."""
    from celery_platform import embedded as server

    folder = _folder()
    try:
        stopped = server.stop(folder)
    except PlatformError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    click.echo(
        f"{'Stopped the' if stopped else 'No'} embedded Redis {'of' if stopped else 'runs for'} "
        f"{server.Place.of(folder).folder}."
    )
    sys.exit(0 if stopped else 1)


def _folder() -> Path | None:
    from celery_platform.settings import Settings

    return Settings.load().workdir
