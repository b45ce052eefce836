"""
Keep a copy of what is needed, and throw away what is not: backups, old logs, temporary files.

A clean-up stays inside the folder it was given: it works on open folders, not on paths, so that a symbolic link put in
its way leads nowhere.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from celery_platform import Backoff, Dead, Secret, platform_task
from tasks.backups import Backup, DumpFailed, back_up

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cleaned", "backup_database", "clean_logs", "clean_temp_files"]

_RETRY = Backoff(on=OSError, attempts=3, first=30, ceiling=300)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What went (or, in a dry run, would go): *files*, their *size* in bytes, and how many could not be removed."""

    files: int
    size: int
    failed: int
    dry_run: bool


@platform_task(
    priority="low",
    retry=Backoff(on=(DumpFailed, sqlite3.OperationalError, OSError), attempts=4, first=30, ceiling=900),
    timeout=timedelta(minutes=50),
)
def backup_database(
    folder: Path, url: Secret[str] | None = None, keep: int = 7, minimum_age: timedelta = timedelta(days=1)
) -> Backup:
    """
    Write a backup of the database at *url* into *folder*, verify it, and remove those that are too many.

    *url* is ``postgresql://user:password@host/name`` or ``sqlite:////path``; ``TASKS_BACKUP_URL`` without it. The
    newest *keep* backups of this database stay, and so does every one younger than *minimum_age*: a schedule gone wild
    must not push out last week. A backup that cannot be read again never takes the place of one that can. The file
    belongs to the worker's user alone.
    """
    return back_up(
        url.reveal() if url is not None else os.environ.get("TASKS_BACKUP_URL", ""), folder, keep, minimum_age
    )


@platform_task(priority="bulk", retry=_RETRY, timeout=600)
def clean_logs(
    root: Path, older_than: timedelta = timedelta(days=14), pattern: str = "*.log*", *, dry_run: bool = False
) -> Cleaned:
    """
    Remove log files under *root* that match *pattern* and were last written longer ago than *older_than*.

    A log that is still written to is young, and stays. *dry_run* counts and removes nothing. Links are never followed.
    """
    return _clean(root, pattern, older_than, dry_run=dry_run)


@platform_task(priority="bulk", retry=_RETRY, timeout=600)
def clean_temp_files(
    root: Path, older_than: timedelta = timedelta(days=1), pattern: str = "*", *, dry_run: bool = False
) -> Cleaned:
    """
    Remove files under *root* that match *pattern* and were last written longer ago than *older_than*.

    Folders that are old and empty go too. *dry_run* counts and removes nothing. Links are never followed; an old link
    itself stays.
    """
    cleaned = _clean(root, pattern, older_than, dry_run=dry_run)
    if not dry_run:
        _remove_empty_folders(root, older_than)
    return cleaned


def _clean(root: Path, pattern: str, older_than: timedelta, *, dry_run: bool) -> Cleaned:
    files = size = failed = 0
    for folder, name, found in _old_files(_checked(root), pattern, time.time() - older_than.total_seconds()):
        try:
            if not dry_run:
                os.unlink(name, dir_fd=folder)
        except OSError:
            failed += 1
        else:
            files, size = files + 1, size + found.st_size
    return Cleaned(files, size, failed, dry_run)


def _old_files(root: Path, pattern: str, before: float) -> Iterator[tuple[int, str, os.stat_result]]:
    for _, _, names, folder in os.fwalk(root, follow_symlinks=False):
        for name in names:
            if not fnmatchcase(name, pattern):
                continue
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:  # its owner was quicker
                continue
            if stat.S_ISREG(found.st_mode) and found.st_mtime < before:
                yield folder, name, found


def _remove_empty_folders(root: Path, older_than: timedelta) -> None:
    before = time.time() - older_than.total_seconds()
    for _, folders, _, folder in os.fwalk(_checked(root), topdown=False, follow_symlinks=False):
        for name in folders:
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode) and found.st_mtime < before:
                    os.rmdir(name, dir_fd=folder)
            except OSError:  # in use again, or not empty
                continue


def _checked(root: Path) -> Path:
    try:
        found = root.resolve(strict=True)
    except FileNotFoundError:
        raise Dead(f"{root} does not exist.") from None
    if not found.is_dir() or found in {Path(found.anchor), Path.home()}:
        raise Dead(f"{root} is no folder to clean; expected one below the root and other than the home folder.")
    return found
