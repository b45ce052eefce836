"""
What the demo asks for, and how each kind of work must end.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from demo.dataset import FOLDER, ORDERS, SPOILT
from demo.sinks import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from celery.result import AsyncResult

    from demo.sinks import WebSink

__all__ = ["Errand", "Tally", "enqueue", "lay_out", "shortfalls", "swept"]

_OLD = 30 * 86_400
_GUESTS = ("ada", "grace", "edsger", "barbara", "tony", "leslie", "frances", "donald")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many calls ended how; *retried* counts calls that needed more than one attempt, however they ended."""

    succeeded: int = 0
    retried: int = 0
    buried: int = 0
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class Errand:
    """One kind of work: its *calls*, and how they must end."""

    name: str
    calls: Sequence[AsyncResult[Any]]
    expected: Tally


def lay_out(folder: Path) -> None:
    """
    Put a small database, old logs and stale uploads into *folder*.
    """
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        database.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, amount TEXT)")
        database.executemany("INSERT INTO orders VALUES (?, '12.50')", ((number,) for number in range(5_000)))
        database.commit()
    for name in ("logs/shop.log.1", "logs/shop.log.2", "uploads/half.part", "scratch/half.part"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("old\n" * 500)
        os.utime(path, (time.time() - _OLD,) * 2)
    (folder / "logs" / "shop.log").write_text("young\n")


def enqueue(folder: Path, web: WebSink) -> list[Errand]:
    """
    Ask for everything, and return what was asked.
    """
    return [_reports(folder), _thumbnails(folder), _mails(), _webhooks(web), _upkeep(folder)]


def _reports(folder: Path) -> Errand:
    from tasks.reports import build_report

    orders, out = FOLDER / "orders.csv.gz", folder / "reports"
    calls = [build_report.delay(orders, out), build_report.delay(orders, out, group="product")]
    return Errand(f"reports on {ORDERS:,} rows", calls, Tally(succeeded=2))


def _thumbnails(folder: Path) -> Errand:
    from tasks.images import make_thumbnails

    out = folder / "thumbnails"
    calls = [make_thumbnails.delay(FOLDER / name, out) for name in ("harbour.jpg", "badge.png", "torn.jpg")]
    return Errand("thumbnails, one file torn", calls, Tally(succeeded=2, buried=1))


def _mails() -> Errand:
    from celery_platform import PII
    from tasks.email import send_email

    guests = [f"{name}@example.com" for name in _GUESTS] + ["later@example.com", "nobody@example.com"]
    calls = [
        send_email.delay(
            PII(to), "Welcome", "welcome", PII({"name": to.partition("@")[0], "link": "https://example.com/"})
        )
        for to in guests
    ]
    return Errand("e-mail: 451 once, 550 once", calls, Tally(succeeded=len(_GUESTS) + 1, retried=1, buried=1))


def _webhooks(web: WebSink) -> Errand:
    from celery_platform import Secret
    from tasks.webhooks import deliver_webhook

    paths = ["/orders"] * 8 + ["/busy", "/gone", "/strict"]
    calls = [
        deliver_webhook.delay(web.url + path, "order.placed", {"number": number}, Secret(SECRET))
        for number, path in enumerate(paths)
    ]
    return Errand("webhooks: 503 twice, 410, 422", calls, Tally(succeeded=9, retried=1, buried=1, discarded=1))


def _upkeep(folder: Path) -> Errand:
    from celery_platform import Secret
    from tasks.maintenance import backup_database, clean_logs, clean_temp_files

    calls: list[AsyncResult[Any]] = [
        backup_database.delay(folder / "backups", Secret(f"sqlite:///{folder}/shop.db")),
        clean_logs.delay(folder / "logs"),
        clean_temp_files.delay(folder / "uploads"),
    ]
    return Errand("backup, clean-up", calls, Tally(succeeded=3))


def swept(folder: Path) -> bool:
    """
    Tell whether the scheduled clean-up has run.
    """
    return not any((folder / "scratch").iterdir())


def shortfalls(folder: Path) -> Iterator[str]:
    """
    Yield what the work should have left in *folder* and did not.
    """
    counts = {
        "reports/*.html": 2,
        "thumbnails/*": 4,
        "backups/*.sqlite3": 1,
        "logs/*": 1,
        "uploads/*": 0,
        "scratch/*": 0,
    }
    for pattern, expected in counts.items():
        found = len(list(folder.glob(pattern)))
        if found != expected:
            yield f"{pattern}: expected {expected} files, found {found}"
    rejected = f"{ORDERS - SPOILT} rows, {SPOILT} rejected"
    for page in (folder / "reports").glob("*.html"):
        if rejected not in page.read_text(encoding="utf-8"):
            yield f"{page.name}: expected {rejected!r}"
