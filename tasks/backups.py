"""
Back up a database: written beside its place, verified, then moved there; old backups go last.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from celery_platform import Dead
from tasks.atomic import replacing

__all__ = ["Backup", "DumpFailed", "back_up"]

_POSTGRES = ("postgresql", "postgres")
_STAMP = "%Y%m%dT%H%M%SZ"


class DumpFailed(Exception):  # noqa: N818 - reads as a sentence
    """`pg_dump` or the verification of its file failed."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A verified backup at *path*, of *size* bytes; *removed* older ones made room for it."""

    path: Path
    size: int
    removed: int


def back_up(url: str, folder: Path, keep: int, minimum_age: timedelta) -> Backup:
    """
    Write a backup of the database at *url* into *folder*, verify it, and remove those that are too many.

    The newest *keep* backups of this database stay, and so does every one younger than *minimum_age*. Raises `Dead` for
    what only a person can mend, `DumpFailed`, `sqlite3.OperationalError` or `OSError` for what time may.
    """
    if keep < 1:
        raise Dead(f"keep expected at least 1, got {keep}.")
    scheme, name = urlsplit(url).scheme, Path(unquote(urlsplit(url).path)).stem
    if scheme not in (*_POSTGRES, "sqlite") or not name:
        raise Dead(f"expected a postgresql:// or sqlite:/// URL with a database, got scheme {scheme!r}.")
    suffix = "sqlite3" if scheme == "sqlite" else "dump"
    target = folder / f"{name}-{datetime.now(UTC).strftime(_STAMP)}.{suffix}"
    with replacing(target) as draft:
        (_copy_sqlite if scheme == "sqlite" else _dump_postgres)(url, draft)
    return Backup(target, target.stat().st_size, _retire(folder, name, suffix, keep, minimum_age))


def _copy_sqlite(url: str, draft: Path) -> None:
    source = Path(unquote(urlsplit(url).path).removeprefix("/"))
    if not source.exists():
        raise Dead(f"{source} does not exist.")
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as database,
        closing(sqlite3.connect(draft)) as copy,
    ):
        database.backup(copy, pages=1024)
        # The copy is one file: a journal beside it would be left behind by the move.
        copy.execute("PRAGMA journal_mode=DELETE")
        answer = copy.execute("PRAGMA integrity_check").fetchone()[0]
    if answer != "ok":
        raise Dead(f"the copy of {source.name} is damaged, and so is its original: {answer}")


def _dump_postgres(url: str, draft: Path) -> None:
    environment = {**os.environ, **_connection(url)}
    _run(["pg_dump", "--format=custom", "--no-password", "--lock-wait-timeout=60s", f"--file={draft}"], environment)
    if not _run(["pg_restore", "--list", str(draft)], environment).strip():
        raise DumpFailed("pg_restore lists nothing in the new dump.")


def _connection(url: str) -> dict[str, str]:
    """
    Return *url* as libpq's variables: what stands on a command line, every user of the machine can read.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    found = {
        "PGHOST": options.get("host") or parts.hostname,
        "PGPORT": options.get("port") or (str(parts.port) if parts.port else None),
        "PGUSER": parts.username and unquote(parts.username),
        "PGPASSWORD": parts.password and unquote(parts.password),
        "PGDATABASE": unquote(parts.path.removeprefix("/")),
        "PGSSLMODE": options.get("sslmode"),
        "PGCONNECT_TIMEOUT": "10",
    }
    return {name: value for name, value in found.items() if value}


def _run(argv: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise Dead(f"{argv[0]} is not on PATH. Install PostgreSQL's client programs on the workers.") from None
    if done.returncode:
        said = done.stderr.strip()[-500:].replace(environment.get("PGPASSWORD") or "\0", "***")
        raise DumpFailed(f"{argv[0]} ended with {done.returncode}: {said}")
    return done.stdout


def _retire(folder: Path, name: str, suffix: str, keep: int, minimum_age: timedelta) -> int:
    ours = re.compile(rf"{re.escape(name)}-\d{{8}}T\d{{6}}Z\.{suffix}")
    backups = sorted(path for path in folder.iterdir() if ours.fullmatch(path.name))
    youngest = time.time() - minimum_age.total_seconds()
    removed = [path for path in backups[:-keep] if path.stat().st_mtime < youngest]
    for path in removed:
        path.unlink(missing_ok=True)
    return len(removed)
